use super::*;
use cairn_base::Kind;
use cairn_base::read_at::read_vec;
use std::io::Write;

#[test]
fn holes_show_and_reads_are_exact() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(4 << 20).unwrap();
    file.as_file().write_all_at(&[7; 4096], 1 << 20).unwrap();
    let source = FileSource::open(file.path()).unwrap();
    assert_eq!(source.size(), 4 << 20);
    assert_eq!(
        source.data_extents(0..u64::MAX).unwrap(),
        [(1 << 20)..(1 << 20) + 4096]
    );
    assert_eq!(source.data_extents(0..100).unwrap(), []);
    assert_eq!(
        source.data_extents((1 << 20) + 5..(1 << 20) + 9).unwrap(),
        [(1 << 20) + 5..(1 << 20) + 9]
    );
    assert_eq!(read_vec(&source, (1 << 20) - 1, 2).unwrap(), [0, 7]);
    let beyond = read_vec(&source, (4 << 20) - 1, 2).unwrap_err();
    assert_eq!(beyond.kind(), Kind::Invalid);
    source.will_need(0..u64::MAX);
    source.will_need(9..9);
}

#[test]
fn a_change_shows() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"one").unwrap();
    let source = FileSource::open(file.path()).unwrap();
    assert!(!source.changed().unwrap());
    file.write_all(b"two").unwrap();
    assert!(source.changed().unwrap());
    file.as_file().set_len(1).unwrap();
    let error = read_vec(&source, 0, 3).unwrap_err();
    assert_eq!(error.kind(), Kind::Damaged);
    assert_eq!(error.path(), Some(file.path()));
}

#[test]
fn folders_and_pipes_are_refused_without_waiting() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(
        FileSource::open(folder.path()).err().unwrap().kind(),
        Kind::Invalid
    );
    assert_eq!(
        FileSource::open(Path::new("/dev/null"))
            .err()
            .unwrap()
            .kind(),
        Kind::Invalid
    );
    let null = File::open("/dev/null").unwrap();
    let error = FileSource::from_file(null, Path::new("x")).err().unwrap();
    assert_eq!(error.kind(), Kind::Invalid);
    let missing = folder.path().join("missing");
    assert_eq!(
        FileSource::open(&missing).err().unwrap().kind(),
        Kind::NotFound
    );
    let pipe = folder.path().join("pipe");
    let made = std::process::Command::new("mkfifo")
        .arg(&pipe)
        .status()
        .unwrap();
    assert!(made.success());
    assert_eq!(FileSource::open(&pipe).err().unwrap().kind(), Kind::Invalid);
}
