use super::*;
use cairn::Time;

fn entry(kind: EntryKind, mode: u32) -> Attributes {
    let time = Time::default();
    Attributes {
        kind,
        size: 1,
        allocated: 1,
        mode,
        uid: 7,
        gid: 8,
        links: 1,
        device: None,
        modified: time,
        changed: time,
        accessed: time,
        created: None,
        dos_flags: 0,
    }
}

fn mode(look: &Look, kind: EntryKind, mode: u32) -> u32 {
    let mut shown = entry(kind, mode);
    look.dress(&mut shown);
    shown.mode
}

#[test]
fn modes_become_what_was_asked_for() {
    use EntryKind::{Fifo, File, Folder, Symlink};
    let permissive = Look {
        permissive: true,
        ..Look::default()
    };
    let masked = Look {
        umask: Some(0o027),
        ..Look::default()
    };
    let both = Look {
        umask: Some(0o077),
        ..permissive.clone()
    };
    let cases = [
        (&permissive, File, 0o600, 0o644),
        (&permissive, File, 0o4700, 0o4755),
        (&permissive, File, 0, 0o444),
        (&permissive, Folder, 0o700, 0o755),
        (&permissive, Fifo, 0o600, 0o600),
        (&permissive, Symlink, 0o777, 0o777),
        (&masked, File, 0o644, 0o640),
        (&masked, Folder, 0o1777, 0o1750),
        (&masked, Symlink, 0o777, 0o777),
        (&both, File, 0o200, 0o600),
        (&both, Folder, 0o000, 0o500),
    ];
    for (look, kind, guests, shown) in cases {
        assert_eq!(
            mode(look, kind, guests),
            shown,
            "{look:?} {kind:?} {guests:o}"
        );
    }
    assert_eq!(permissive.private(0o400), 0o444);
    assert_eq!(permissive.private(0o500), 0o555);
    assert_eq!(permissive.private(0o600), 0o644);
    assert_eq!(Look::default().private(0o500), 0o500);
    assert!(Look::default().is_the_guests() && !both.is_the_guests());
}

#[test]
fn owners_are_replaced_one_by_one() {
    let look = Look {
        uid: Some(1000),
        ..Look::default()
    };
    let mut shown = entry(EntryKind::File, 0o644);
    look.dress(&mut shown);
    assert_eq!((shown.uid, shown.gid, shown.mode), (1000, 8, 0o644));
}

#[test]
fn one_name_matches_or_none() {
    let pick = |wanted: &str, names: &[&str]| {
        Look::only_match(wanted.as_bytes(), names.iter().copied()).map(str::to_string)
    };
    assert_eq!(pick("README", &["a", "ReadMe"]), Some("ReadMe".into()));
    assert_eq!(pick("README", &["readme", "ReadMe"]), None);
    assert_eq!(pick("README", &["readme", "readme"]), Some("readme".into()));
    assert_eq!(pick("GRÜSSE", &["grüsse"]), Some("grüsse".into()));
    assert_eq!(pick("x", &["y"]), None);
    assert_eq!(fold(b"A\xffB"), b"a\xffb");
}
