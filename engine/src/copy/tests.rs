//! Copies of a volume that exists only here, to reach what real ones hardly ever do.

use super::*;
use cairn_base::{ReadAt, Silent, Time};
use cairn_guest::{
    Attributes, DirEntry, DirSink, EntryKind, ExtentSink, RangeSink, StreamInfo, VolumeInfo,
};

/// What opening a file does.
#[derive(Clone, Copy)]
enum Opens {
    Well,
    Panics,
    StopsTheCopy,
}

/// A folder with as many files as are asked for.
struct Fake {
    info: VolumeInfo,
    files: u64,
    opens: Opens,
    /// The extended attributes of each file.
    values: Vec<(Vec<u8>, Vec<u8>)>,
}

const FOLDER: u64 = 1;

fn fake(files: u64, opens: Opens) -> Fake {
    let info = VolumeInfo {
        file_system: "ext4",
        label: String::new(),
        uuid: String::new(),
        block_size: 4096,
        size: 1 << 30,
        free: 0,
        files: 0,
        clean: true,
        notes: Vec::new(),
        ignores_case: false,
    };
    Fake {
        info,
        files,
        opens,
        values: Vec::new(),
    }
}

fn id(number: u64) -> EntryId {
    EntryId { tree: 0, number }
}

impl Volume for Fake {
    fn info(&self) -> &VolumeInfo {
        &self.info
    }
    fn root(&self) -> EntryId {
        id(FOLDER)
    }
    fn attributes(&self, of: EntryId) -> Result<Attributes> {
        let folder = of.number == FOLDER;
        let time = Time {
            seconds: 1_000_000,
            nanos: 0,
        };
        Ok(Attributes {
            kind: if folder {
                EntryKind::Folder
            } else {
                EntryKind::File
            },
            size: 4,
            allocated: 4,
            mode: 0o755,
            uid: u32::MAX,
            gid: u32::MAX,
            links: 1,
            device: None,
            modified: time,
            changed: time,
            accessed: time,
            created: None,
            dos_flags: 0,
        })
    }
    fn lookup(&self, _: EntryId, _: &[u8]) -> Result<Option<DirEntry>> {
        Ok(None)
    }
    fn read_dir(&self, _: EntryId, after: u64, sink: DirSink<'_>) -> Result<()> {
        for number in after + 1..=self.files {
            let entry = DirEntry {
                name: format!("file {number}").into_bytes(),
                id: id(number + FOLDER),
                kind: EntryKind::File,
                cookie: number,
            };
            if sink(entry).is_break() {
                break;
            }
        }
        Ok(())
    }
    fn parent(&self, _: EntryId) -> Result<Option<EntryId>> {
        Ok(None)
    }
    fn open(&self, of: EntryId) -> Result<Arc<dyn ReadAt>> {
        match self.opens {
            Opens::Panics if of.number > FOLDER + 3 => panic!("this file panics"),
            Opens::StopsTheCopy if of.number > FOLDER + 3 => {
                Err(Error::new(Kind::Full, "there is no room"))
            }
            _ => Ok(Arc::new(b"text".to_vec())),
        }
    }
    fn open_stream(&self, _: EntryId, _: &[u8]) -> Result<Arc<dyn ReadAt>> {
        Err(Error::not_found("there are none"))
    }
    fn read_link(&self, _: EntryId) -> Result<Vec<u8>> {
        Err(Error::not_found("there are none"))
    }
    /// One for each file, whose size is what the content of a file is compressed to.
    fn streams(&self, of: EntryId) -> Result<Vec<StreamInfo>> {
        let one = StreamInfo {
            name: b"WofCompressedData".to_vec(),
            size: 1 << 20,
        };
        let has = self.info.file_system == "ntfs" && of.number != FOLDER;
        Ok(if has { vec![one] } else { Vec::new() })
    }
    fn xattrs(&self, of: EntryId) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let folder = of.number == FOLDER;
        Ok(if folder {
            Vec::new()
        } else {
            self.values.clone()
        })
    }
    fn extents(&self, _: EntryId, _: ExtentSink<'_>) -> Result<()> {
        Ok(())
    }
    fn free_space(&self, _: RangeSink<'_>) -> Result<()> {
        Ok(())
    }
}

fn copy(volume: Fake, target: CopyTarget<'_>) -> Result<CopyReport> {
    let volume: Arc<dyn Volume> = Arc::new(volume);
    copy_files(target, &CopyOptions::default(), &Silent, &mut |copier| {
        copier.add(&volume, volume.root(), b"top", &[])
    })
}

/// More files than the queue has room for: those who work must not leave it full.
const MANY: u64 = 2000;

#[test]
#[should_panic(expected = "a scoped thread panicked")]
fn a_copy_in_which_a_thread_panics_ends() {
    let temp = tempfile::tempdir().unwrap();
    let target = CopyTarget::Folder(temp.path());
    drop(copy(fake(MANY, Opens::Panics), target));
}

#[test]
fn a_copy_that_ends_early_tells_what_it_did() {
    let temp = tempfile::tempdir().unwrap();
    let target = CopyTarget::Folder(temp.path());
    let report = copy(fake(MANY, Opens::StopsTheCopy), target).unwrap();
    assert_eq!(report.stopped.unwrap().kind(), Kind::Full);
    assert!(report.files <= 3 && report.folders == 1);
    // What is there is as in the guest, and is marked as not complete.
    let top = temp.path().join("top");
    let modified = std::fs::metadata(&top).unwrap().modified().unwrap();
    let since = modified.duration_since(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(since.as_secs(), 1_000_000);
    assert!(top.join(UNFINISHED).exists());
    let there = std::fs::read_dir(&top).unwrap().count();
    assert_eq!(u64::try_from(there).unwrap(), report.files + 1);
}

#[test]
fn an_access_list_that_is_not_understood_does_not_cost_the_file() {
    let mut volume = fake(1, Opens::Well);
    let mut acl = 2u32.to_le_bytes().to_vec();
    acl.extend_from_slice(&[0x77, 0, 4, 0, 255, 255, 255, 255]);
    volume.values = vec![(b"system.posix_acl_access".to_vec(), acl)];
    let mut out = Vec::new();
    let report = copy(volume, CopyTarget::Archive(ArchiveFormat::Tar, &mut out)).unwrap();
    assert_eq!(report.files, 1);
    let named = report.failed[0].to_string();
    assert!(
        named.contains("access control list") && named.contains("file 1"),
        "{named}"
    );
    assert!(out.windows(4).any(|window| window == b"text"));
}

/// Of a file that Windows has compressed by itself the copy has the content: the stream it lies in is no loss. Of any other file a stream of this name is.
#[test]
fn content_in_another_form_is_no_stream_that_is_lost() {
    for (tag, lost) in [(0x8000_0017u32, 0), (0x8000_001B, 1)] {
        let mut volume = fake(1, Opens::Well);
        volume.info.file_system = "ntfs";
        volume.info.ignores_case = true;
        let point = [&tag.to_le_bytes()[..], &[0; 4]].concat();
        volume.values = vec![(b"system.ntfs_reparse_data".to_vec(), point)];
        let mut out = Vec::new();
        let target = CopyTarget::Archive(ArchiveFormat::Zip, &mut out);
        let report = copy(volume, target).unwrap();
        let named = report.failed.iter();
        let named = named.filter(|error| error.to_string().contains("WofCompressedData"));
        assert_eq!((named.count(), report.files), (lost, 1), "{tag:x}");
    }
}
