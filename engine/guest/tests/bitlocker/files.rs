//! File systems on encrypted volumes, and where they say that their files lie.

use crate::maker::*;
use crate::support::*;
use cairn_base::read_at::read_vec;
use cairn_base::{Error, ReadAt, Result};
use cairn_guest::volume::{ExtentSink, RangeSink};
use cairn_guest::{
    Attributes, DirEntry, DirSink, EntryId, EntryKind, Extent, Keys, Reading, Volume, VolumeInfo,
    open_volume, open_volume_with,
};
use std::ops::{ControlFlow, Range};
use std::sync::{Arc, OnceLock};

/// A volume without files whose one entry lies where it is told.
pub struct Nothing {
    info: VolumeInfo,
    /// What it says once it is there.
    later: OnceLock<VolumeInfo>,
    places: Vec<Range<u64>>,
}

impl Default for Nothing {
    fn default() -> Nothing {
        Nothing {
            info: VolumeInfo {
                file_system: "nothing",
                label: String::new(),
                uuid: String::new(),
                block_size: 512,
                size: 0,
                free: 0,
                files: 0,
                clean: true,
                notes: Vec::new(),
                ignores_case: false,
            },
            later: OnceLock::new(),
            places: Vec::new(),
        }
    }
}

impl Nothing {
    /// Its entry lies there.
    pub fn at(places: Vec<Range<u64>>) -> Nothing {
        Nothing {
            places,
            ..Nothing::default()
        }
    }
}

fn none<T>() -> Result<T> {
    Err(Error::not_found("there is nothing"))
}

impl Volume for Nothing {
    fn info(&self) -> &VolumeInfo {
        self.later.get().unwrap_or(&self.info)
    }
    fn root(&self) -> EntryId {
        EntryId::new(1)
    }
    fn attributes(&self, _id: EntryId) -> Result<Attributes> {
        none()
    }
    fn lookup(&self, _folder: EntryId, _name: &[u8]) -> Result<Option<DirEntry>> {
        none()
    }
    fn read_dir(&self, _folder: EntryId, _after: u64, _sink: DirSink<'_>) -> Result<()> {
        none()
    }
    fn parent(&self, _id: EntryId) -> Result<Option<EntryId>> {
        none()
    }
    fn open(&self, _id: EntryId) -> Result<Arc<dyn ReadAt>> {
        none()
    }
    fn open_stream(&self, _id: EntryId, _name: &[u8]) -> Result<Arc<dyn ReadAt>> {
        none()
    }
    fn read_link(&self, _id: EntryId) -> Result<Vec<u8>> {
        none()
    }
    fn extents(&self, _id: EntryId, sink: ExtentSink<'_>) -> Result<()> {
        let mut offset = 0;
        for place in self.places.clone() {
            let length = place.end - place.start;
            let extent = Extent {
                place,
                stream: Some(0),
                offset,
                reading: Reading {
                    valid: 1 << 20,
                    packing: 0,
                },
            };
            if sink(extent).is_break() {
                break;
            }
            offset += length;
        }
        Ok(())
    }
    fn free_space(&self, sink: RangeSink<'_>) -> Result<()> {
        for place in self.places.clone() {
            if sink(place).is_break() {
                break;
            }
        }
        Ok(())
    }
}

fn extents(volume: &dyn Volume) -> Vec<(Range<u64>, u64, u32)> {
    let mut found = Vec::new();
    let sink = &mut |extent: Extent| {
        found.push((extent.place, extent.offset, extent.reading.packing));
        ControlFlow::Continue(())
    };
    volume.extents(EntryId::new(1), sink).unwrap();
    found
}

/// Whoever compares disks asks where a file lies on the disk, not on the decrypted volume; and bytes that are encrypted are not those that are not.
#[test]
fn places_are_those_of_the_encrypted_volume() {
    let mut plain = noise(5, 2 << 20);
    plain[KEPT.start as usize..KEPT.end as usize].fill(0);
    let mut recipe = Recipe::new(Looks::Windows7, 0x8004).protect(&[Protect::Clear]);
    recipe.state = 5;
    recipe.encrypted = 0x1c_0000;
    let image = make(&recipe, &plain);
    let unlocked = unlock(Arc::new(image), &Given::Nothing).unwrap();
    let inner = Nothing::at(vec![
        0x1000..0x3000,
        0x3_f000..0x5_1000,
        0x1b_0000..0x1d_0000,
    ]);
    let volume = unlocked.volume(Arc::new(inner));
    let found = extents(&*volume);
    let mark = found[0].2;
    assert_ne!(mark, 0);
    let expected = [
        (HEAD + 0x1000..HEAD + 0x2000, 0, mark),
        (0x2000..0x3000, 0x1000, mark),
        (0x3_f000..0x4_0000, 0x2000, mark),
        (0x5_0000..0x5_1000, 0x2000 + 0x1_1000, mark),
        (0x1b_0000..0x1c_0000, 0x2000 + 0x1_2000, mark),
        (0x1c_0000..0x1d_0000, 0x2000 + 0x2_2000, 0),
    ];
    assert_eq!(found, expected);
    let mut free = Vec::new();
    let sink = &mut |range| {
        free.push(range);
        ControlFlow::Continue(())
    };
    volume.free_space(sink).unwrap();
    assert_eq!(
        free,
        [0x2000..0x3000, 0x3_f000..0x5_1000, 0x1b_0000..0x1d_0000]
    );
    // A sink that has enough is not told more.
    let mut count = 0;
    let sink = &mut |_| {
        count += 1;
        ControlFlow::Break(())
    };
    volume.extents(EntryId::new(1), sink).unwrap();
    assert_eq!(count, 1);
}

/// What a file system could not count for a moment is not said of the volume for good.
#[test]
fn what_the_file_system_says_later_is_what_the_volume_says() {
    let recipe = Recipe::new(Looks::Windows7, 0x8004).protect(&[Protect::Clear]);
    let mut plain = noise(5, 2 << 20);
    plain[KEPT.start as usize..KEPT.end as usize].fill(0);
    let unlocked = unlock(Arc::new(make(&recipe, &plain)), &Given::Nothing).unwrap();
    let inner = Arc::new(Nothing::default());
    let volume = unlocked.volume(inner.clone());
    let suspended = |info: &VolumeInfo| {
        let notes = info.notes.iter();
        notes.filter(|note| note.text.contains("suspended")).count()
    };
    let before = volume.info();
    assert_eq!((before.free, suspended(before)), (0, 1));
    let counted = VolumeInfo {
        free: 7,
        ..inner.info.clone()
    };
    inner.later.set(counted).unwrap();
    for _ in 0..2 {
        let info = volume.info();
        assert_eq!((info.free, suspended(info)), (7, 1), "{:?}", info.notes);
    }
    assert_eq!(before.free, 0);
}

/// A volume of NTFS by mkntfs, with a file of zeros over the areas that BitLocker keeps for itself, as Windows has them.
fn ntfs(folder: &std::path::Path) -> Option<Vec<u8>> {
    if !have(&["mkntfs", "ntfscp", "truncate"]) {
        return None;
    }
    let (path, text, kept) = (
        folder.join("ntfs"),
        folder.join("text"),
        folder.join("kept"),
    );
    let text_bytes = noise(21, 300_000);
    std::fs::write(&text, text_bytes).unwrap();
    std::fs::write(&kept, vec![0u8; 3 << 20]).unwrap();
    let (path, text, kept) = (path.display(), text.display(), kept.display());
    let script = format!(
        "set -e; truncate -s 16M '{path}'; mkntfs -q -F -f -s 512 -c 4096 -L Label '{path}'; \
         ntfscp -q '{path}' '{kept}' kept; ntfscp -q '{path}' '{text}' text"
    );
    shell(&script).unwrap();
    Some(std::fs::read(folder.join("ntfs")).unwrap())
}

/// What of a file can be read through its volume, and where it lies.
fn content(volume: &dyn Volume, name: &[u8]) -> (Vec<u8>, Vec<Range<u64>>) {
    let entry = volume.lookup(volume.root(), name).unwrap().unwrap();
    assert_eq!(entry.kind, EntryKind::File);
    let file = volume.open(entry.id).unwrap();
    let bytes = read_vec(&*file, 0, file.size() as usize).unwrap();
    let mut places = Vec::new();
    let sink = &mut |extent: Extent| {
        places.push(extent.place);
        ControlFlow::Continue(())
    };
    volume.extents(entry.id, sink).unwrap();
    (bytes, places)
}

#[test]
fn files_of_an_encrypted_volume_are_those_that_were_put_there() {
    let folder = tempfile::tempdir().unwrap();
    let Some(plain) = ntfs(folder.path()) else {
        return;
    };
    let before = open_volume(Arc::new(plain.clone())).unwrap();
    let (kept, places) = content(&*before, b"kept");
    assert_eq!(kept.len(), 3 << 20);
    // BitLocker's own areas come to lie within that file, wherever it was put; otherwise this would not be such a volume.
    let length = KEPT.end - KEPT.start;
    let place = places
        .iter()
        .find(|place| place.start >= KEPT.start && place.end - place.start >= length);
    let at = place.unwrap_or_else(|| panic!("{places:?}")).start - KEPT.start;
    for (method, sector) in [(0x8000, 512), (0x8003, 512), (0x8005, 512), (0x8004, 4096)] {
        let mut recipe = Recipe::new(Looks::Windows7, method).protect(&[Protect::Clear]);
        (recipe.sector, recipe.at) = (sector, at);
        let image = Arc::new(make(&recipe, &plain));
        let volume = open_volume_with(image, &Keys::new().into()).unwrap();
        let info = volume.info();
        assert_eq!((info.file_system, &*info.label), ("ntfs", "Label"));
        assert!(
            info.notes
                .iter()
                .any(|note| note.text.contains("suspended"))
        );
        let (text, _) = content(&*volume, b"text");
        assert!(text == noise(21, 300_000));
        let (zeros, told) = content(&*volume, b"kept");
        assert_eq!(zeros, kept);
        // What is BitLocker's own has no place.
        let bytes = |places: &[Range<u64>]| places.iter().map(|at| at.end - at.start).sum::<u64>();
        let own = bytes(&places) - bytes(&told);
        assert!((3 << 16..length).contains(&own), "{told:?}");
    }
}
