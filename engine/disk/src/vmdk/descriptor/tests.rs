use super::*;
use cairn_base::Kind;
use proptest::prelude::*;

const SPLIT: &str = "# Disk DescriptorFile
version=1
encoding=\"UTF-8\"
CID=a4c48d29
parentCID=ffffffff
isNativeSnapshot=\"no\"
createType=\"twoGbMaxExtentSparse\"

# Extent description
RW 4194304 SPARSE \"my disk-s001.vmdk\"
RDONLY 2097152 SPARSE \"my disk-s002.vmdk\"
RW 63 ZERO

# The Disk Data Base
#DDB

ddb.virtualHWVersion = \"4\"
ddb.uuid = \"60 00 C2 9b 2d 2f 6f 9f-4c 3b 0b 5e 8e 1d 2c 77\"
ddb.adapterType = \"ide\"
";

fn parse(text: &str) -> Result<Descriptor> {
    Descriptor::parse(text.as_bytes())
}

fn flat(more: &str) -> String {
    format!("version=1\nCID=1\ncreateType=\"custom\"\nRW 8 FLAT \"a\" 0\n{more}\n")
}

#[test]
fn what_is_said_is_read() {
    let found = parse(SPLIT).unwrap();
    let line = |sectors, kind, name: &str| ExtentLine {
        sectors,
        kind,
        name: name.to_string(),
        offset: 0,
    };
    let expected = Descriptor {
        cid: 0xa4c4_8d29,
        parent_cid: None,
        parent_hint: None,
        create_type: "twoGbMaxExtentSparse".to_string(),
        extents: vec![
            line(4_194_304, ExtentKind::Sparse, "my disk-s001.vmdk"),
            line(2_097_152, ExtentKind::Sparse, "my disk-s002.vmdk"),
            line(63, ExtentKind::Zero, ""),
        ],
        uuid: Guid::from_text("6000C29b2d2f6f9f4c3b0b5e8e1d2c77"),
    };
    assert!(expected.uuid.is_some());
    assert_eq!(found, expected);
    assert_eq!(found.sectors(), 4_194_304 + 2_097_152 + 63);
    // However its lines end, and whatever stands around them.
    for text in [
        SPLIT.replace('\n', "\r\n"),
        SPLIT.replace('\n', "  \n\t"),
        SPLIT.replace("CID=", "cid = ").replace("RW ", "rw\t"),
        format!("{SPLIT}\n\nchangeTrackPath=\"x\"\nsomething else\n= = =\n"),
        format!("{SPLIT}CID=a4c48d29"),
    ] {
        assert_eq!(parse(&text).unwrap(), expected, "{text}");
    }
}

#[test]
fn names_are_in_the_encoding_that_is_said() {
    let line = b"RW 8 FLAT \"caf\xe9.vmdk\" 5\n";
    let with = |encoding: &str| {
        let text =
            format!("version=1\nCID=1\ncreateType=\"custom\"\n# \u{fc}\nencoding=\"{encoding}\"\n");
        Descriptor::parse(&[line, text.as_bytes()].concat())
    };
    let found = with("windows-1252").unwrap();
    assert_eq!(found.extents[0].name, "café.vmdk");
    assert_eq!(found.extents[0].offset, 5);
    for encoding in ["UTF-8", "Big5"] {
        assert_eq!(with(encoding).unwrap_err().kind(), Kind::Unsupported);
    }
}

#[test]
fn a_parent_has_a_name_and_a_cid() {
    let delta = flat("parentCID=DEADbeef\nparentFileNameHint=\"../my base.vmdk\"");
    let found = parse(&delta).unwrap();
    assert_eq!(found.parent_cid, Some(0xdead_beef));
    assert_eq!(found.parent_hint.as_deref(), Some("../my base.vmdk"));
    for (more, fine) in [
        ("parentCID=ffffffff\nparentFileNameHint=\"\"", true),
        ("parentCID=12345678", false),
        ("parentCID=ffffffff\nparentFileNameHint=\"a\"", false),
        ("parentFileNameHint=\"a\"", false),
        ("parentCID=x\nparentFileNameHint=\"a\"", false),
        ("parentCID=123456789", false),
    ] {
        assert_eq!(parse(&flat(more)).is_ok(), fine, "{more}");
    }
}

#[test]
fn what_contradicts_itself_is_refused() {
    let refused = |text: &str, kind: Kind, said: &str| {
        let error = parse(text).unwrap_err();
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(inner) = source {
            text.push_str(&inner.to_string());
            source = inner.source();
        }
        assert_eq!(error.kind(), kind, "{text}");
        assert!(text.contains(said), "{text}");
    };
    let damaged = |more: &str, said: &str| refused(&flat(more), Kind::Damaged, said);
    damaged("CID=2", "said twice");
    damaged("createType=\"vmfs\"", "said twice");
    damaged("RW 0 FLAT \"b\" 0", "`0` is no number of sectors");
    damaged(
        "RW 18446744073709551616 FLAT \"b\" 0",
        "is no number of sectors",
    );
    damaged("RW -1 FLAT \"b\" 0", "is no number of sectors");
    damaged("RW 8 FLAT b 0", "names no file in quotes");
    damaged("RW 8 FLAT \"b 0", "names no file in quotes");
    damaged("RW 8 FLAT \"\" 0", "names no file in quotes");
    damaged("RW 8 FLAT \"b\" x", "is no sector");
    damaged("RW 8 SPARSE \"b\" 7", "begins at the beginning");
    damaged("RW 2251799813685248 ZERO", "are more than");
    refused(&flat("NOACCESS 8 ZERO"), Kind::Unsupported, "NOACCESS");
    for kind in ["SESPARSE", "VMFSRDM", "VMFSRAW", "OTHER"] {
        let line = format!("RW 8 {kind} \"b\"");
        refused(&flat(&line), Kind::Unsupported, kind);
    }
    let typed =
        |kind: &str, lines: &str| format!("version=1\nCID=1\ncreateType=\"{kind}\"\n{lines}\n");
    let (one, sparse) = ("RW 8 FLAT \"a\" 0", "RW 8 SPARSE \"a\"");
    for (kind, lines) in [
        ("monolithicFlat", "RW 8 FLAT \"a\" 0\nRW 8 FLAT \"b\" 0"),
        ("monolithicFlat", sparse),
        ("twoGbMaxExtentFlat", sparse),
        ("monolithicSparse", one),
        ("vmfs", sparse),
        ("vmfsSparse", one),
        ("custom", ""),
    ] {
        assert_eq!(
            parse(&typed(kind, lines)).unwrap_err().kind(),
            Kind::Damaged
        );
    }
    for kind in ["seSparse", "vmfsRDM", "vmfsRawDeviceMap", ""] {
        refused(&typed(kind, one), Kind::Unsupported, kind);
    }
    for field in ["version=1\n", "CID=1\n", "createType=\"custom\"\n"] {
        let text = flat("").replace(field, "");
        refused(&text, Kind::Damaged, field.split('=').next().unwrap());
    }
    refused(
        &flat("").replace("version=1", "version=4"),
        Kind::Unsupported,
        "version 4",
    );
}

#[test]
fn it_is_bounded() {
    let lines = |count: usize| "RW 8 FLAT \"b\" 0\n".repeat(count);
    assert_eq!(
        parse(&flat(&lines(MAX_EXTENTS - 1))).unwrap().extents.len(),
        MAX_EXTENTS
    );
    for count in [MAX_EXTENTS, 60_000] {
        assert_eq!(
            parse(&flat(&lines(count))).unwrap_err().kind(),
            Kind::Damaged
        );
    }
    let long = flat(&"#".repeat(1 << 20));
    assert_eq!(parse(&long).unwrap_err().kind(), Kind::Damaged);
    let name = "n".repeat(5000);
    assert!(parse(&flat(&format!("RW 8 FLAT \"{name}\" 0"))).is_err());
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0usize..600) {
        let _ = Descriptor::parse(&bytes);
        let mut text = SPLIT.as_bytes().to_vec();
        let at = at.min(text.len());
        text.splice(at..at, bytes);
        if let Ok(found) = Descriptor::parse(&text) {
            prop_assert!(!found.extents.is_empty());
            prop_assert_eq!(found.parent_cid.is_some(), found.parent_hint.is_some());
        }
    }
}
