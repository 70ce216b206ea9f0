use super::*;

fn machine(name: &str) -> Owner {
    Owner::Machine(name.into())
}

fn point(byte: u8) -> Owner {
    Owner::Point(Arc::new(PointKey {
        machine: "m".into(),
        id: PointId([byte; 32]),
        seconds: i64::from(byte),
    }))
}

#[test]
fn a_number_is_taken_apart_as_it_was_joined() {
    for (slot, number) in [(0, 1), (1, 0), (SLOTS - 1, NUMBER_MASK), (77, 12345)] {
        assert_eq!(split(join(slot, number)), (slot, number));
    }
    assert_eq!(join(ROOT_SLOT, 1), ROOT);
    assert!(fits(NUMBER_MASK) && !fits(NUMBER_MASK + 1));
}

#[test]
fn slots_do_not_depend_on_the_order_of_visits() {
    let names: Vec<String> = (0..500).map(|n| format!("machine{n}")).collect();
    let (there, back) = (Slots::default(), Slots::default());
    let forward: Vec<u32> = names
        .iter()
        .map(|name| there.claim(&machine(name)).unwrap())
        .collect();
    let mut backward: Vec<u32> = names
        .iter()
        .rev()
        .map(|name| back.claim(&machine(name)).unwrap())
        .collect();
    backward.reverse();
    assert_eq!(forward, backward);
    for (name, slot) in names.iter().zip(&forward) {
        assert_eq!(there.claim(&machine(name)).unwrap(), *slot);
        assert_eq!(there.owner(*slot).unwrap(), machine(name));
    }
}

#[test]
fn owners_that_fall_on_one_slot_get_two() {
    let slots = Slots::default();
    let wanted = slots.first_choice(&machine("a"));
    slots.owners.write().insert(wanted, machine("intruder"));
    let slot = slots.claim(&machine("a")).unwrap();
    assert_ne!(slot, wanted);
    assert_eq!(slots.claim(&machine("a")).unwrap(), slot);
    assert!(matches!(slots.owner(12345), Err(Failure::Stale)) || slot == 12345);
}

#[test]
fn trees_differ_by_point_disk_partition_and_sub_volume() {
    let slots = Slots::default();
    let points = [point(1), point(2)].map(|owner| slots.claim(&owner).unwrap());
    let mut seen = std::collections::HashSet::new();
    for point in points {
        for disk in 0..3 {
            for partition in 0..5 {
                for tree in 0..3 {
                    let key = TreeKey {
                        point,
                        disk,
                        partition,
                        tree,
                    };
                    assert!(seen.insert(slots.claim(&Owner::Tree(key)).unwrap()));
                    assert!(seen.insert(slots.claim(&Owner::Large(key, u64::MAX)).unwrap()));
                }
            }
        }
    }
}
