use super::*;

#[test]
fn a_line_of_the_kernels_table_is_understood() {
    let found = line(
        b"612 29 0:57 /a\\011b /mnt/a\\040b rw,nosuid shared:1 master:2 - fuse.cairn /srv/my\\134store rw,user_id=0",
    );
    let wanted = Line {
        id: 612,
        parent: 29,
        number: "0:57".into(),
        root: "/a\tb".into(),
        place: "/mnt/a b".into(),
        kind: b"fuse.cairn".to_vec(),
        source: b"/srv/my\\store".to_vec(),
    };
    assert_eq!(found, Some(wanted));
    for other in [
        &b""[..],
        b"29 1 0:57 / /mnt rw",
        b"x 1 0:57 / / rw - a b rw",
    ] {
        assert_eq!(line(other), None);
    }
    assert_eq!(unescape(b"a\\b\\0\\0400"), b"a\\b\\0 0");
}

fn mounted(id: u64, parent: u64, number: &str, root: &str, place: &str) -> Line {
    Line {
        id,
        parent,
        number: number.into(),
        root: root.into(),
        place: place.into(),
        kind: Vec::new(),
        source: Vec::new(),
    }
}

#[test]
fn what_lies_in_a_mount_is_found_through_any_number_of_others() {
    let all = [
        mounted(7, 5, "0:9", "/", "/mnt/a/b"),
        mounted(1, 1, "8:1", "/", "/"),
        mounted(2, 1, "0:2", "/", "/mnt"),
        mounted(5, 2, "0:5", "/", "/mnt/a"),
        mounted(6, 1, "0:6", "/", "/mnt2"),
        mounted(8, 2, "0:8", "/", "/mnt"),
    ];
    let ids = |of| {
        inside(&all, of)
            .iter()
            .map(|line| line.id)
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(2), [5, 8, 7]);
    assert_eq!(ids(6), [0; 0]);
    // The topmost one of all lies in itself.
    assert_eq!(ids(1).len(), all.len());
}

#[test]
fn what_lies_below_a_path_is_found_at_every_place_of_a_file_system() {
    let all = [
        mounted(2, 1, "0:2", "/", "/mnt"),
        mounted(3, 1, "0:2", "/m/p", "/bound"),
        mounted(4, 3, "0:4", "/", "/bound/disks"),
        mounted(5, 2, "0:5", "/", "/mnt/m/q/x"),
        mounted(6, 1, "0:6", "/", "/mnt/m/r"),
    ];
    let below = |path| is_mounted_below(&all, "0:2", Path::new(path));
    for path in ["/", "/m", "/m/p", "/m/p/disks", "/m/q", "/m/q/x"] {
        assert!(below(path), "{path}");
    }
    for path in ["/m/p/disks/a", "/m/q/x/y", "/m/r", "/m/p/d", "/n"] {
        assert!(!below(path), "{path}");
    }
}
