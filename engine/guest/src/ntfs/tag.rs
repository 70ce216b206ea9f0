//! Reparse tags ([MS-FSCC] section 2.1.2.1): what they are called, and where the content of their files is.

/// Windows' overlay filter: compressed files, and files in WIM archives.
pub const WOF: u32 = 0x8000_0017;

/// Where the content of a file with such a tag may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In the main stream, once all of it was fetched from where it really is.
    Fetched,
    /// Somewhere else, or nowhere.
    Elsewhere,
}

/// A tag, its name, where its content is, and why it cannot be read and what can be done.
struct Known {
    tag: u32,
    name: &'static str,
    place: Place,
    why: &'static str,
    advice: &'static str,
}

const fn known(
    tag: u32,
    name: &'static str,
    place: Place,
    why: &'static str,
    advice: &'static str,
) -> Known {
    Known {
        tag,
        name,
        place,
        why,
        advice,
    }
}

const ON_WINDOWS: &str = "start the restored disk and copy the file with Windows";
const ON_ITS_SERVER: &str = "attach the restored disk to a server that has the same role or software installed, and copy the file there";
const FROM_CLOUD: &str = "take the file from the cloud, with the account that it belongs to";
const NO_CONTENT: &str = "look at its reparse point: there is nothing else to it";

const CLOUD: &str = "the file's content, or a part of it, is in the cloud and not on this volume";
const MIGRATED: &str = "the file's content was moved to other storage";
const LAYER: &str =
    "the file's content is in a layer of a container's image, not in this volume's file";
const SERVER: &str = "the entry stands for something that a file server keeps elsewhere";
const MARK: &str = "the entry is only a mark that a name was removed or leads elsewhere";

/// Tags of Windows whose content is not simply in the main stream. The tags of cloud files, which differ in four bits,
/// stand here once.
const KNOWN: &[Known] = &[
    known(
        0x8000_0005,
        "DRIVER_EXTENDER",
        Place::Elsewhere,
        MIGRATED,
        ON_ITS_SERVER,
    ),
    known(0xC000_0004, "HSM", Place::Fetched, MIGRATED, ON_ITS_SERVER),
    known(0x8000_0006, "HSM2", Place::Fetched, MIGRATED, ON_ITS_SERVER),
    known(
        0x8000_0007,
        "SIS",
        Place::Elsewhere,
        "the file's content is in the common store of Single Instance Storage",
        ON_ITS_SERVER,
    ),
    known(
        0x8000_0008,
        "WIM",
        Place::Elsewhere,
        "the file's content is in a mounted WIM archive",
        "take it from the archive",
    ),
    known(0x8000_0009, "CSV", Place::Elsewhere, SERVER, ON_ITS_SERVER),
    known(0x8000_000A, "DFS", Place::Elsewhere, SERVER, ON_ITS_SERVER),
    known(
        0x8000_000B,
        "FILTER_MANAGER",
        Place::Elsewhere,
        SERVER,
        ON_ITS_SERVER,
    ),
    known(0x8000_0012, "DFSR", Place::Elsewhere, SERVER, ON_ITS_SERVER),
    known(
        0x8000_0013,
        "DEDUP",
        Place::Elsewhere,
        "the file's content is in the chunk store of Windows' data deduplication, which is not read",
        "attach the restored disk to a Windows Server with Data Deduplication installed, and copy the file there",
    ),
    known(0x8000_0014, "NFS", Place::Elsewhere, SERVER, ON_ITS_SERVER),
    known(
        0x8000_0015,
        "FILE_PLACEHOLDER",
        Place::Fetched,
        CLOUD,
        FROM_CLOUD,
    ),
    known(0x8000_0016, "DFM", Place::Elsewhere, MIGRATED, ON_WINDOWS),
    known(0x8000_0018, "WCI", Place::Elsewhere, LAYER, ON_WINDOWS),
    known(0x9000_1018, "WCI_1", Place::Elsewhere, LAYER, ON_WINDOWS),
    known(
        0xA000_0019,
        "GLOBAL_REPARSE",
        Place::Elsewhere,
        MARK,
        NO_CONTENT,
    ),
    known(0x9000_001A, "CLOUD", Place::Fetched, CLOUD, FROM_CLOUD),
    known(
        0x8000_001B,
        "APPEXECLINK",
        Place::Elsewhere,
        "the file is an alias that starts an app of the Store, and has no content",
        NO_CONTENT,
    ),
    known(
        0x9000_001C,
        "PROJFS",
        Place::Fetched,
        "the file's content, or a part of it, comes from a program and is not on this volume",
        ON_WINDOWS,
    ),
    known(
        0x8000_001E,
        "STORAGE_SYNC",
        Place::Fetched,
        "the file's content, or a part of it, is in Azure and not on this volume",
        "take the file from its share in Azure",
    ),
    known(
        0xA000_001F,
        "WCI_TOMBSTONE",
        Place::Elsewhere,
        MARK,
        NO_CONTENT,
    ),
    known(
        0x8000_0020,
        "UNHANDLED",
        Place::Elsewhere,
        LAYER,
        ON_WINDOWS,
    ),
    known(0x8000_0021, "ONEDRIVE", Place::Fetched, CLOUD, FROM_CLOUD),
    known(
        0xA000_0022,
        "PROJFS_TOMBSTONE",
        Place::Elsewhere,
        MARK,
        NO_CONTENT,
    ),
    known(0xA000_0027, "WCI_LINK", Place::Elsewhere, LAYER, ON_WINDOWS),
    known(
        0xA000_1027,
        "WCI_LINK_1",
        Place::Elsewhere,
        LAYER,
        ON_WINDOWS,
    ),
    known(
        0xA000_0028,
        "DATALESS_CIM",
        Place::Elsewhere,
        LAYER,
        ON_WINDOWS,
    ),
    known(0xA000_0010, "IIS_CACHE", Place::Elsewhere, MARK, NO_CONTENT),
];

/// Tags whose files are read, or are something else than files.
const READ: [(u32, &str); 8] = [
    (0xA000_0003, "MOUNT_POINT"),
    (0xA000_000C, "SYMLINK"),
    (WOF, "WOF"),
    (0xA000_001D, "LX_SYMLINK"),
    (0x8000_0023, "AF_UNIX"),
    (0x8000_0024, "LX_FIFO"),
    (0x8000_0025, "LX_CHR"),
    (0x8000_0026, "LX_BLK"),
];

/// `IO_REPARSE_TAG_SYMLINK 0xA000000C`: name and number; `unknown` for a name that is not known.
pub fn text(tag: u32) -> String {
    let read = READ.iter().find(|(known, _)| *known == tag);
    let name = read.map(|(_, name)| *name);
    let name = match name.or(find(tag).map(|known| known.name)) {
        Some("CLOUD") if tag != 0x9000_001A => {
            format!("IO_REPARSE_TAG_CLOUD_{:X}", (tag >> 12) & 0xF)
        }
        Some(name) => format!("IO_REPARSE_TAG_{name}"),
        None => "unknown".into(),
    };
    format!("{name} 0x{tag:08X}")
}

fn find(tag: u32) -> Option<&'static Known> {
    // Cloud files have a number of their provider's choice in the third digit from the left of the lower half.
    let tag = if tag & 0xFFFF_0FFF == 0x9000_001A {
        0x9000_001A
    } else {
        tag
    };
    KNOWN.iter().find(|known| known.tag == tag)
}

/// Whether the main stream of a file with this tag holds its content once all of that was fetched.
pub fn may_be_fetched(tag: u32) -> bool {
    find(tag).is_some_and(|known| known.place == Place::Fetched)
}

/// Why the content of a file with this tag is not read, in a sentence that names the tag; and what the user can do.
pub fn reason(tag: u32) -> (String, &'static str) {
    match find(tag) {
        Some(known) => (
            format!("{} (reparse tag 0x{tag:08X}, {})", known.why, known.name),
            known.advice,
        ),
        None => (
            format!(
                "where the file's content is only the software knows that gave it the reparse tag 0x{tag:08X}"
            ),
            ON_ITS_SERVER,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tag_is_named_and_stands_once() {
        for (at, one) in KNOWN.iter().enumerate() {
            let (reason, advice) = reason(one.tag);
            assert!(reason.contains(&format!("0x{:08X}, {}", one.tag, one.name)));
            assert!(!advice.is_empty());
            assert!(KNOWN.iter().skip(at + 1).all(|other| other.tag != one.tag));
        }
        assert!(reason(0x0000_1234).0.contains("0x00001234"));
    }

    #[test]
    fn tags_have_name_and_number() {
        assert_eq!(text(0xA000_000C), "IO_REPARSE_TAG_SYMLINK 0xA000000C");
        assert_eq!(text(0x8000_0013), "IO_REPARSE_TAG_DEDUP 0x80000013");
        assert_eq!(text(0x9000_601A), "IO_REPARSE_TAG_CLOUD_6 0x9000601A");
        assert_eq!(text(0x9000_001A), "IO_REPARSE_TAG_CLOUD 0x9000001A");
        assert_eq!(text(5), "unknown 0x00000005");
    }

    #[test]
    fn cloud_files_of_every_provider_are_known() {
        for provider in 0..16u32 {
            let tag = 0x9000_001A | provider << 12;
            assert!(may_be_fetched(tag));
            assert!(reason(tag).0.contains("CLOUD"), "{tag:08x}");
        }
        assert!(!may_be_fetched(0x9000_001B) && !may_be_fetched(0x8000_0013));
        assert!(!may_be_fetched(0x1234) && !may_be_fetched(WOF));
    }
}
