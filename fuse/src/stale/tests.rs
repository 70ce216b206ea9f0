use super::*;

#[test]
fn mounts_of_ours_are_told_from_others() {
    let line = |kind: &str| Line {
        id: 612,
        parent: 29,
        number: "0:57".into(),
        root: "/".into(),
        place: "/mnt/a b".into(),
        kind: kind.into(),
        source: b"/srv/my store".to_vec(),
    };
    let wanted = MountFacts {
        path: "/mnt/a b".into(),
        source: "/srv/my store".into(),
        number: "0:57".into(),
        id: 612,
    };
    assert_eq!(ours(line("fuse.cairn")), Some(wanted));
    for other in ["ext4", "fuse.sshfs", "fuse", "cairn"] {
        assert_eq!(ours(line(other)), None);
    }
}

#[test]
fn what_is_alive_is_left_alone() {
    let temp = tempfile::tempdir().unwrap();
    assert!(!is_dead(temp.path()));
    assert_eq!(clear(temp.path()).unwrap(), 0);
    assert_eq!(clear(Path::new("")).unwrap(), 0);
    assert_eq!(clear(&temp.path().join("not/there")).unwrap(), 0);
}
