use super::*;

fn path(number: usize) -> PastPath {
    PastPath::top("m".into()).child(number.to_string().as_bytes())
}

#[test]
fn no_more_is_kept_than_there_is_room_for() {
    let mut histories = Histories::default();
    for number in 0..1000 {
        histories.cell(&path(number));
        assert!(histories.kept.len() <= HISTORIES);
    }
    assert!(histories.kept.contains_key(&path(999)));
    // One that is large pushes the others out, never itself.
    histories.weigh(&path(999), 2 * WEIGHT);
    assert_eq!(histories.kept.len(), 1);
    histories.cell(&path(1));
    assert_eq!(histories.kept.keys().collect::<Vec<_>>(), [&path(1)]);
}

#[test]
fn partitions_are_called_as_they_are_listed() {
    for (name, number) in [("p1", Some(1)), ("p0", Some(0)), ("p128", Some(128))] {
        assert_eq!(walk::partition(name.as_bytes()), number);
    }
    for name in ["p", "1", "p01", "p+1", "P1", "p1.error", "p99999999999"] {
        assert_eq!(walk::partition(name.as_bytes()), None, "{name}");
    }
}
