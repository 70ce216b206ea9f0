use super::*;

#[test]
fn mounts_of_ours_are_found_in_the_kernels_table() {
    let ours = of_line(
        b"612 29 0:57 / /mnt/a\\040b rw,nosuid,nodev shared:1 master:2 - fuse.cairn /srv/my\\134store rw,user_id=0",
    );
    let wanted = MountFacts {
        path: "/mnt/a b".into(),
        source: "/srv/my\\store".into(),
        number: "0:57".into(),
    };
    assert_eq!(ours, Some(wanted));
    for other in [
        &b"29 1 0:57 / / rw - ext4 /dev/sda1 rw"[..],
        b"29 1 0:57 / /mnt rw - fuse.sshfs cairn rw",
        b"29 1 0:57 / /mnt rw",
        b"",
    ] {
        assert_eq!(of_line(other), None);
    }
    assert_eq!(unescape(b"a\\b\\0\\0400"), b"a\\b\\0 0");
}

#[test]
fn what_is_alive_is_left_alone() {
    let temp = tempfile::tempdir().unwrap();
    assert!(!is_dead(temp.path()));
    assert_eq!(clear(temp.path()).unwrap(), 0);
    assert_eq!(clear(Path::new("")).unwrap(), 0);
    assert_eq!(clear(&temp.path().join("not/there")).unwrap(), 0);
}
