use super::*;

fn path(text: &str) -> PastPath {
    PastPath {
        machine: "m".into(),
        path: text.as_bytes().into(),
    }
}

#[test]
fn paths_are_joined_and_taken_apart() {
    let top = PastPath::top("m".into());
    let file = top.child(b"disk0").child(b"p1").child(b"a b");
    assert_eq!(file, path("disk0/p1/a b"));
    assert_eq!(file.names(), [&b"disk0"[..], b"p1", b"a b"]);
    assert_eq!(file.parent(), Some(path("disk0/p1")));
    assert_eq!(path("disk0").parent(), Some(top.clone()));
    assert_eq!((top.parent(), top.names().len()), (None, 0));
    assert!(file.number() < 1 << BITS && file.number() != top.number());
}

#[test]
fn no_more_is_remembered_than_there_is_room_for() {
    let paths = Paths::default();
    let first = path("first");
    for number in 0..2 * MOST {
        paths.remember(5, &path(&number.to_string())).unwrap();
        // What is in use stays.
        paths.remember(5, &first).unwrap();
    }
    assert!(paths.len() <= MOST);
    assert_eq!(paths.get(5, first.number()).unwrap(), first);
    assert!(matches!(
        paths.get(5, path("0").number()),
        Err(Failure::Stale)
    ));
    assert!(matches!(paths.get(6, first.number()), Err(Failure::Stale)));
}

#[test]
fn of_two_paths_of_one_number_the_first_keeps_it() {
    let paths = Paths::default();
    let held = path("held");
    paths
        .known
        .lock()
        .paths
        .insert((5, path("wanted").number()), (held.clone(), 1));
    let refused = paths.remember(5, &path("wanted")).unwrap_err();
    assert_eq!(refused.errno(), 16);
    assert_eq!(paths.get(5, path("wanted").number()).unwrap(), held);
}

#[test]
fn nested_folders_without_end_fill_no_more_than_their_room() {
    let paths = Paths::default();
    let mut deep = PastPath::top("m".into());
    let name = [b'x'; 250];
    // Each is 250 bytes longer than the one before: some 8 MiB of 256 of them.
    while deep.path.len() + name.len() < LONGEST {
        deep = deep.child(&name);
        paths.remember(5, &deep).unwrap();
    }
    let mut other = path("other");
    while other.path.len() + name.len() < LONGEST {
        other = other.child(&name);
        paths.remember(5, &other).unwrap();
    }
    for number in 0..300 {
        let long = path(&number.to_string()).child(&[b'y'; LONGEST - 10]);
        paths.remember(5, &long).unwrap();
        assert_eq!(paths.get(5, long.number()).unwrap(), long);
    }
    let known = paths.known.lock();
    let bytes: usize = known.paths.values().map(|(path, _)| path.path.len()).sum();
    assert_eq!(bytes, known.bytes);
    assert!(bytes <= BYTES && known.paths.len() > 100);
    drop(known);
    let refused = paths.remember(5, &path("z").child(&[b'z'; LONGEST]));
    assert!(matches!(refused, Err(Failure::LongPath)));
}
