use super::*;

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
