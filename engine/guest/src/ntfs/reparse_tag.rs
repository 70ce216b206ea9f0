//! Names of reparse tags ([MS-FSCC] section 2.1.2.1).

const NAMES: [(u32, &str); 28] = [
    (0xA000_0003, "MOUNT_POINT"),
    (0xC000_0004, "HSM"),
    (0x8000_0006, "HSM2"),
    (0x8000_0007, "SIS"),
    (0x8000_0008, "WIM"),
    (0x8000_0009, "CSV"),
    (0x8000_000A, "DFS"),
    (0xA000_000C, "SYMLINK"),
    (0x8000_0012, "DFSR"),
    (0x8000_0013, "DEDUP"),
    (0x8000_0014, "NFS"),
    (0x8000_0015, "FILE_PLACEHOLDER"),
    (0x8000_0016, "DFM"),
    (0x8000_0017, "WOF"),
    (0x8000_0018, "WCI"),
    (0x9000_1018, "WCI_1"),
    (0xA000_0019, "GLOBAL_REPARSE"),
    (0x8000_001B, "APPEXECLINK"),
    (0x9000_001C, "PROJFS"),
    (0xA000_001D, "LX_SYMLINK"),
    (0x8000_001E, "STORAGE_SYNC"),
    (0xA000_001F, "WCI_TOMBSTONE"),
    (0x8000_0020, "UNHANDLED"),
    (0x8000_0021, "ONEDRIVE"),
    (0x8000_0023, "AF_UNIX"),
    (0x8000_0024, "LX_FIFO"),
    (0x8000_0025, "LX_CHR"),
    (0x8000_0026, "LX_BLK"),
];

/// `IO_REPARSE_TAG_SYMLINK 0xA000000C`: name and number; `unknown` for a name that is not known.
pub fn text(tag: u32) -> String {
    // Sixteen tags of clouds differ in one digit.
    let cloud = tag & 0xFFFF_0FFF == 0x9000_001A;
    let name = match NAMES.iter().find(|(known, _)| *known == tag) {
        Some((_, name)) => format!("IO_REPARSE_TAG_{name}"),
        None if tag == 0x9000_001A => "IO_REPARSE_TAG_CLOUD".into(),
        None if cloud => format!("IO_REPARSE_TAG_CLOUD_{:X}", (tag >> 12) & 0xF),
        None => "unknown".into(),
    };
    format!("{name} 0x{tag:08X}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_have_name_and_number() {
        assert_eq!(text(0xA000_000C), "IO_REPARSE_TAG_SYMLINK 0xA000000C");
        assert_eq!(text(0x9000_601A), "IO_REPARSE_TAG_CLOUD_6 0x9000601A");
        assert_eq!(text(0x9000_001A), "IO_REPARSE_TAG_CLOUD 0x9000001A");
        assert_eq!(text(5), "unknown 0x00000005");
    }
}
