use super::*;
use cairn::PointId;

#[test]
fn every_node_is_found_by_its_number() {
    let (slots, paths) = (Slots::default(), Paths::default());
    let machine: Arc<str> = "web01".into();
    let key = Arc::new(PointKey {
        machine: machine.clone(),
        id: PointId([7; 32]),
        seconds: 1,
    });
    let slot = slots.claim(&Owner::Point(key.clone())).unwrap();
    let point = || PointRef {
        slot,
        key: Some(key.clone()),
    };
    let tree = TreeKey {
        point: slot,
        disk: 3,
        partition: 5,
        tree: 0,
    };
    let entry = |number| EntryRef {
        slot: slots.claim(&Owner::Tree(tree)).unwrap(),
        tree,
        number,
    };
    let nodes = [
        Node::Root,
        Node::RootError(name_hash(b"x.error")),
        Node::Machine(machine.clone()),
        Node::Latest(machine.clone(), name_hash(b"y")),
        Node::MachineError(machine.clone(), name_hash(b"z.error")),
        Node::Past(PastPath::top(machine.clone())),
        Node::Past(PastPath::top(machine.clone()).child(b"disk0")),
        Node::PastError(PastPath::top(machine.clone()).child(b"disk0")),
        Node::Point(point()),
        Node::PointError(point()),
        Node::Disks(point()),
        Node::Raw(point(), 4095),
        Node::Files(point()),
        Node::DiskFiles(point(), 2),
        Node::PartitionsError(point(), 2),
        Node::Unreadable(point(), 2, 0xff_ffff),
        Node::VolumeError(point(), 2, 128),
        Node::VolumeNotes(point(), 2, 128),
        Node::Entry(entry(0)),
        Node::Entry(entry((1 << 40) - 1)),
    ];
    let mut seen = std::collections::HashSet::new();
    for node in nodes {
        let inode = node.inode(&slots).unwrap();
        if let Node::Past(past) | Node::PastError(past) = &node {
            paths.remember(inode::split(inode).0, past).unwrap();
        }
        assert!(seen.insert(inode), "{node:?}");
        assert_ne!(inode, 0);
        assert_eq!(Node::find(inode, false, &slots, &paths).unwrap(), node);
    }
}

#[test]
fn large_numbers_and_sub_volumes_have_their_own_slots() {
    let slots = Slots::default();
    let tree = TreeKey {
        point: IMAGE_SLOT,
        disk: 0,
        partition: 1,
        tree: 0,
    };
    let slot = slots.claim(&Owner::Tree(tree)).unwrap();
    for (sub, number) in [(0, 1u64 << 40), (0, u64::MAX), (5, 256), (5, u64::MAX)] {
        let id = EntryId { tree: sub, number };
        let inode = entry_inode(&slots, slot, &tree, id).unwrap();
        let Node::Entry(found) = Node::find(inode, true, &slots, &Paths::default()).unwrap() else {
            panic!("no entry");
        };
        assert_eq!(found.id(), id);
        // From there a neighbour of the main tree is what it always was.
        let back = entry_inode(&slots, found.slot, &found.tree, EntryId::new(12)).unwrap();
        assert_eq!(back, inode::join(slot, 12));
        assert_eq!(Node::Entry(found).inode(&slots).unwrap(), inode);
    }
}

#[test]
fn numbers_of_nothing_are_stale() {
    let (slots, paths) = (Slots::default(), Paths::default());
    for inode in [
        0,
        2,
        inode::join(1, 15 << KIND_SHIFT),
        inode::join(99, 1),
        u64::MAX,
    ] {
        for image in [false, true] {
            assert!(
                matches!(
                    Node::find(inode, image, &slots, &paths),
                    Err(Failure::Stale)
                ),
                "{inode:#x}"
            );
        }
    }
}
