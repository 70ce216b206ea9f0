//! Windows file attributes (FILE_ATTRIBUTE_*, [MS-FSCC] section 2.6), which FAT, exFAT and NTFS have in common.

/// Each bit and its name: that of the constant, in small letters.
const NAMES: [(u32, &str); 21] = [
    (0x1, "readonly"),
    (0x2, "hidden"),
    (0x4, "system"),
    (0x10, "directory"),
    (0x20, "archive"),
    (0x40, "device"),
    (0x80, "normal"),
    (0x100, "temporary"),
    (0x200, "sparse_file"),
    (0x400, "reparse_point"),
    (0x800, "compressed"),
    (0x1000, "offline"),
    (0x2000, "not_content_indexed"),
    (0x4000, "encrypted"),
    (0x8000, "integrity_stream"),
    (0x1_0000, "virtual"),
    (0x2_0000, "no_scrub_data"),
    (0x4_0000, "recall_on_open"),
    (0x8_0000, "pinned"),
    (0x10_0000, "unpinned"),
    (0x40_0000, "recall_on_data_access"),
];

/// The names of the bits that are set, from the lowest on; bits without a name last, as one number in hexadecimal.
pub fn attribute_names(flags: u32) -> Vec<String> {
    let mut rest = flags;
    let mut names = Vec::new();
    for (bit, name) in NAMES {
        if flags & bit != 0 {
            names.push(name.to_string());
            rest &= !bit;
        }
    }
    if rest != 0 {
        names.push(format!("{rest:#x}"));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_is_told() {
        assert_eq!(
            attribute_names(0x27),
            ["readonly", "hidden", "system", "archive"]
        );
        assert_eq!(
            attribute_names(0x8000_0408),
            ["reparse_point", "0x80000008"]
        );
        assert!(attribute_names(0).is_empty());
    }
}
