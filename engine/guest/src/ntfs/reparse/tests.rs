use super::*;
use crate::volume::LinkTarget;

fn link(tag: u32, flags: Option<u32>, substitute: &str, printed: &str) -> Vec<u8> {
    let utf16 = |text: &str| {
        text.encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect::<Vec<_>>()
    };
    let (substitute, printed) = (utf16(substitute), utf16(printed));
    let mut point = tag.to_le_bytes().to_vec();
    point.extend([0; 4]);
    for number in [0, substitute.len(), substitute.len(), printed.len()] {
        point.extend((number as u16).to_le_bytes());
    }
    point.extend(flags.into_iter().flat_map(u32::to_le_bytes));
    point.extend(substitute);
    point.extend(printed);
    point
}

fn target_of(point: &[u8]) -> String {
    String::from_utf8(target(View::new(point, "reparse point", 0)).unwrap()).unwrap()
}

#[test]
fn targets_are_what_the_guest_wrote() {
    let kernel = r"\??\C:\Users\Ö";
    assert_eq!(
        target_of(&link(SYMLINK, Some(0), kernel, r"C:\Users\Ö")),
        r"C:\Users\Ö"
    );
    assert_eq!(
        target_of(&link(SYMLINK, Some(0), kernel, "")),
        r"C:\Users\Ö"
    );
    assert_eq!(
        target_of(&link(SYMLINK, Some(1), r"..\a\b", r"..\a\b")),
        "../a/b"
    );
    assert_eq!(
        target_of(&link(MOUNT_POINT, None, kernel, "")),
        r"C:\Users\Ö"
    );
    assert_eq!(
        target_of(&link(MOUNT_POINT, None, r"\??\Volume{1-2}\", "")),
        r"Volume{1-2}\"
    );
    let mut linux = LX_SYMLINK.to_le_bytes().to_vec();
    linux.extend([0, 0, 0, 0, 2, 0, 0, 0]);
    linux.extend(b"/usr/bin");
    assert_eq!(target_of(&linux), "/usr/bin");
}

#[test]
fn names_outside_the_point_are_damage() {
    let good = link(SYMLINK, Some(0), "abc", "abc");
    for at in [12, 14] {
        let mut bad = good.clone();
        bad[at] = 0xF0;
        let error = target(View::new(&bad, "reparse point", 0)).unwrap_err();
        assert_eq!(error.kind(), cairn_base::Kind::Damaged);
    }
    let other = link(0x8000_0017, None, "a", "a");
    assert_eq!(
        target(View::new(&other, "x", 0)).unwrap_err().kind(),
        cairn_base::Kind::Invalid
    );
}

fn led(point: &[u8]) -> LinkTarget {
    link_target(View::new(point, "reparse point", 0))
        .unwrap()
        .unwrap()
}

fn names(path: &str) -> Vec<Vec<u8>> {
    let names = path.split('/').filter(|name| !name.is_empty());
    names.map(|name| name.as_bytes().to_vec()).collect()
}

#[test]
fn targets_are_taken_apart_by_the_name_made_for_the_kernel() {
    const GUID: &str = "01234567-89ab-cdef-0123-456789abcdef";
    let named = format!(r"\??\Volume{{{}}}\x", GUID.to_uppercase());
    for (target, wanted) in [
        (
            r"\??\C:\Users\Ö",
            LinkTarget::Letter(b'C', names("Users/Ö")),
        ),
        (r"\??\c:", LinkTarget::Letter(b'C', vec![])),
        (r"\??\C:\", LinkTarget::Letter(b'C', vec![])),
        (r"\\?\D:\a\\b\.\c", LinkTarget::Letter(b'D', names("a/b/c"))),
        (
            r"\DosDevices\D:\..\..\a\..\b",
            LinkTarget::Letter(b'D', names("b")),
        ),
        (r"D:\a", LinkTarget::Letter(b'D', names("a"))),
        (&named, LinkTarget::Named(GUID.to_string(), names("x"))),
        (
            r"\??\Volume{1-2}\",
            LinkTarget::Elsewhere(b"/??/Volume{1-2}".to_vec()),
        ),
        (
            r"\??\UNC\server\x",
            LinkTarget::Elsewhere(b"/??/UNC/server/x".to_vec()),
        ),
        (
            r"\\server\x",
            LinkTarget::Elsewhere(b"/??/UNC/server/x".to_vec()),
        ),
        (
            r"\Device\HarddiskVolume2\x",
            LinkTarget::Elsewhere(b"/??/GLOBALROOT/Device/HarddiskVolume2/x".to_vec()),
        ),
        (r"\??\C:x", LinkTarget::Elsewhere(b"/??/C:x".to_vec())),
        (
            r"\??\..\..\etc",
            LinkTarget::Elsewhere("/??/\u{f02e}\u{f02e}/\u{f02e}\u{f02e}/etc".into()),
        ),
    ] {
        // What is made for people says something else, and does not count.
        let printed = r"Z:\elsewhere";
        assert_eq!(
            led(&link(SYMLINK, Some(0), target, printed)),
            wanted,
            "{target}"
        );
        assert_eq!(
            led(&link(MOUNT_POINT, None, target, printed)),
            wanted,
            "{target}"
        );
    }
    for (target, wanted) in [
        (r"..\a\.\b", LinkTarget::Relative(names("../a/b"))),
        ("a", LinkTarget::Relative(names("a"))),
        (r"\a\..\..\b", LinkTarget::Rooted(names("b"))),
        (r"c:\a", LinkTarget::Letter(b'C', names("a"))),
        ("", LinkTarget::Relative(vec![])),
    ] {
        assert_eq!(led(&link(SYMLINK, Some(1), target, "")), wanted, "{target}");
    }
    // Where only the name for people is there, it is taken.
    let printed = link(MOUNT_POINT, None, "", r"C:\a");
    assert_eq!(led(&printed), LinkTarget::Letter(b'C', names("a")));
    let other = link(0x8000_0017, None, "a", "a");
    assert_eq!(link_target(View::new(&other, "x", 0)).unwrap(), None);
}
