use super::*;
use cairn_base::Kind;
use cairn_base::read_at::read_vec;
use std::io::Write;
use std::time::SystemTime;

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

/// Whether the times of files in the folder for temporary files are relied on; says so if not.
fn are_times_known() -> bool {
    let file = tempfile::NamedTempFile::new().unwrap();
    let is_known = FileSource::open(file.path()).unwrap().settled().is_some();
    if !is_known {
        println!(
            "SKIPPED: the folder for temporary files lies on a file system whose times are not relied on"
        );
    }
    is_known
}

#[test]
fn a_change_whose_time_is_set_back_shows() {
    if !are_times_known() {
        return;
    }
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"one").unwrap();
    let old = SystemTime::now() - std::time::Duration::from_secs(100);
    file.as_file().set_modified(old).unwrap();
    let source = FileSource::open(file.path()).unwrap();
    assert!(!source.changed().unwrap());
    file.as_file().write_all_at(b"two", 0).unwrap();
    file.as_file().set_modified(old).unwrap();
    assert!(source.changed().unwrap());
}

#[test]
fn what_is_only_looked_into_is_not_waited_for() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"one").unwrap();
    let looked = FileSource::open_to_look(file.path()).unwrap();
    assert_eq!((looked.size(), looked.settled()), (3, None));
    let opened = FileSource::open(file.path()).unwrap();
    assert_eq!(looked.stamp(), opened.stamp());
    if let Some(settled) = opened.settled() {
        let metadata = file.as_file().metadata().unwrap();
        assert_eq!(
            (settled.seconds, i64::from(settled.nanos)),
            (metadata.ctime(), metadata.ctime_nsec())
        );
    }
}

#[test]
fn a_write_that_is_under_way_is_waited_for_or_shows() {
    if !are_times_known() {
        return;
    }
    const LENGTH: usize = 96 << 20;
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file()
        .write_all_at(&[1], LENGTH as u64 - 1)
        .unwrap();
    let mut wrong = 0;
    for round in 2..6u8 {
        let before = file.as_file().metadata().unwrap().modified().unwrap();
        let bytes = vec![round; LENGTH];
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| file.as_file().write_at(&bytes, 0).unwrap());
            // The write has its time as soon as it begins.
            while file.as_file().metadata().unwrap().modified().unwrap() == before {
                std::hint::spin_loop();
            }
            let source = FileSource::open(file.path()).unwrap();
            let last = read_vec(&source, LENGTH as u64 - 1, 1).unwrap();
            assert_eq!(writer.join().unwrap(), LENGTH);
            wrong += u32::from(last != [round] && !source.changed().unwrap());
        });
    }
    assert_eq!(
        wrong, 0,
        "old bytes were read of a file that did not change"
    );
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
