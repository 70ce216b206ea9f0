//! Partition tables and the file systems of guests.

use crate::pieces::Pieces;
use cairn_base::{ReadAt, View};
use cairn_guest::exfat::ExFatVolume;
use cairn_guest::ext::ExtVolume;
use cairn_guest::fat::FatVolume;
use cairn_guest::hive::Hive;
use cairn_guest::mounted_devices;
use cairn_guest::ntfs::NtfsVolume;
use cairn_guest::ntfs::link_target;
use cairn_guest::probe::{detect, volumes};
use cairn_guest::{CodePage, EntryId, EntryKind, LinkTarget, PartitionTable, TableKind, Volume};
use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Bytes of a volume.
const MAX_VOLUME: u64 = 64 << 20;
/// Entries of a volume that are looked at.
const MAX_ENTRIES: usize = 120;
/// Bytes of a file that are read, at its start, in its middle and at its end.
const LOOK: u64 = 16 << 10;

/// A disk with partitions; if the first byte is odd, the checksums of a GPT are made right.
pub fn partitions(data: &[u8]) -> bool {
    let Some((flags, rest)) = data.split_first() else {
        return false;
    };
    let mut image = rest.to_vec();
    if flags & 1 != 0 {
        mend_gpt(&mut image);
    }
    let disk: Arc<dyn ReadAt> = Arc::new(Pieces::parse(&image, 1 << 40));
    let mut found = false;
    for sector_size in [None, Some(512), Some(4096)] {
        let Ok(table) = PartitionTable::read(&disk, sector_size) else {
            continue;
        };
        found |= table.kind != TableKind::None;
        assert!(
            table
                .partitions
                .windows(2)
                .all(|pair| pair[0].number < pair[1].number)
        );
        for partition in &table.partitions {
            assert!(partition.available <= partition.size);
            assert!(
                partition.available == 0 || partition.start + partition.available <= disk.size()
            );
            let _shown = (partition.kind.to_string(), partition.is_container());
            partition.open(&disk).unwrap();
        }
        let Ok(layout) = volumes(&disk, sector_size) else {
            continue;
        };
        for volume in layout.volumes.iter().take(8) {
            let _opened = volume.open().map(|_| ());
        }
    }
    found
}

/// Appends pieces that make the checksums of a GPT at sector 1 of 512 bytes right.
fn mend_gpt(image: &mut Vec<u8>) {
    let disk = Pieces::parse(image, 1 << 40);
    let mut header = [0; 512];
    if disk.read_exact_at(512, &mut header).is_err() {
        return;
    }
    let number = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().unwrap());
    let small = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().unwrap()) as usize;
    let (at, length) = (number(72), small(80).saturating_mul(small(84)));
    let length_of_header = small(12);
    if length <= 1 << 20
        && let Some(at) = at.checked_mul(512)
    {
        let mut entries = vec![0; length];
        if disk.read_exact_at(at, &mut entries).is_ok() {
            let sum = crc32fast::hash(&entries);
            header[88..92].copy_from_slice(&sum.to_le_bytes());
        }
    }
    if (92..=512).contains(&length_of_header) {
        header[16..20].fill(0);
        let sum = crc32fast::hash(&header[..length_of_header]);
        header[16..20].copy_from_slice(&sum.to_le_bytes());
    }
    image.extend([0, 0, 2, 0, 0, 0, 0, 2, 0]);
    image.extend(header);
}

/// An NTFS volume.
pub fn ntfs(data: &[u8]) -> bool {
    let device: Arc<dyn ReadAt> = Arc::new(Pieces::parse(data, MAX_VOLUME));
    let _told = detect(&*device);
    match NtfsVolume::open(device) {
        Ok(volume) => exercise(&volume) > 1,
        Err(_) => false,
    }
}

/// A hive of the registry. If the first byte is odd, the length of the hive comes first, and a log of it behind it. Checksums of base blocks are made right.
pub fn hive(data: &[u8]) -> bool {
    const MAX_KEYS: usize = 200;
    let Some((flags, rest)) = data.split_first() else {
        return false;
    };
    let (hive, log) = match rest.split_first_chunk() {
        Some((length, rest)) if flags & 1 != 0 => {
            rest.split_at((u32::from_le_bytes(*length) as usize).min(rest.len()))
        }
        _ => (rest, &[][..]),
    };
    let (mut hive, mut log) = (hive.to_vec(), log.to_vec());
    mend_base_block(&mut hive);
    mend_base_block(&mut log);
    let logs: Vec<Arc<dyn ReadAt>> = vec![Arc::new(log)];
    let Ok(hive) = Hive::open(Arc::new(hive), &logs) else {
        return false;
    };
    let _devices = mounted_devices::read(&hive);
    let mut open: Vec<_> = hive.root().into_iter().collect();
    let is_hive = !open.is_empty();
    let mut looked = 0;
    while let Some(key) = open.pop() {
        looked += 1;
        if looked > MAX_KEYS {
            break;
        }
        let _values = hive.each_value(&key, &mut |value| {
            if let Ok(value) = value
                && let Ok(data) = hive.data(&value, 1 << 16)
            {
                assert_eq!(data.len(), value.size() as usize);
            }
            looked += 1;
            if looked < MAX_KEYS {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        });
        let _keys = hive.each_subkey(&key, &mut |subkey| {
            open.extend(subkey);
            if open.len() < MAX_KEYS {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        });
    }
    is_hive
}

/// Makes the checksum of a base block right.
fn mend_base_block(bytes: &mut [u8]) {
    let Some((words, sum)) = bytes.get_mut(..512).map(|head| head.split_at_mut(508)) else {
        return;
    };
    let words = words.chunks_exact(4);
    let right = words.fold(0, |sum, word| {
        sum ^ u32::from_le_bytes(word.try_into().unwrap())
    });
    let right = match right {
        0 => 1,
        u32::MAX => u32::MAX - 1,
        right => right,
    };
    sum.copy_from_slice(&right.to_le_bytes());
}

/// The reparse point of a link of Windows.
pub fn reparse(data: &[u8]) -> bool {
    let view = View::new(data, "reparse point", 0);
    let Ok(Some(target)) = link_target(view) else {
        return false;
    };
    let names = match &target {
        LinkTarget::Posix(_) => panic!("Windows has no such links"),
        LinkTarget::Elsewhere(path) => {
            assert!(path.starts_with(b"/??/") && !path.contains(&0));
            return true;
        }
        LinkTarget::Relative(names) => names,
        LinkTarget::Letter(letter, names) => {
            assert!(letter.is_ascii_uppercase());
            names
        }
        LinkTarget::Rooted(names) | LinkTarget::Named(_, names) => names,
    };
    for name in names {
        assert!(!name.is_empty() && !name.contains(&b'/') && !name.contains(&0) && name != b".");
        assert!(matches!(&target, LinkTarget::Relative(_)) || name != b"..");
    }
    true
}

/// An ext2, ext3 or ext4 volume.
pub fn ext(data: &[u8]) -> bool {
    let device: Arc<dyn ReadAt> = Arc::new(Pieces::parse(data, MAX_VOLUME));
    let _told = detect(&*device);
    match ExtVolume::open(device) {
        Ok(volume) => exercise(&volume) > 1,
        Err(_) => false,
    }
}

/// A FAT volume; the first byte says in which code page.
pub fn fat(data: &[u8]) -> bool {
    let Some((page, rest)) = data.split_first() else {
        return false;
    };
    let pages: Vec<u16> = CodePage::numbers().collect();
    let page = CodePage::new(pages[usize::from(*page) % pages.len()]);
    let device: Arc<dyn ReadAt> = Arc::new(Pieces::parse(rest, MAX_VOLUME));
    let _told = detect(&*device);
    match FatVolume::open(device, page.unwrap()) {
        Ok(volume) => exercise(&volume) > 1,
        Err(_) => false,
    }
}

/// An exFAT volume.
pub fn exfat(data: &[u8]) -> bool {
    let device: Arc<dyn ReadAt> = Arc::new(Pieces::parse(data, MAX_VOLUME));
    let _told = detect(&*device);
    match ExFatVolume::open(device) {
        Ok(volume) => exercise(&volume) > 1,
        Err(_) => false,
    }
}

/// Looks at everything, within bounds; answers how many entries had names.
fn exercise(volume: &dyn Volume) -> usize {
    let _info = volume.info();
    let mut seen: HashSet<EntryId> = HashSet::from([volume.root()]);
    let mut open = vec![volume.root()];
    // Numbers that no name leads to.
    open.extend((0..24).map(EntryId::new));
    let mut looked = 0;
    while let Some(id) = open.pop() {
        looked += 1;
        if looked > MAX_ENTRIES {
            break;
        }
        let kind = volume.attributes(id).map(|attributes| attributes.kind);
        let _more = (volume.parent(id), volume.xattrs(id), volume.read_link(id));
        if let Ok(file) = volume.open(id) {
            read(&*file);
        }
        for stream in volume.streams(id).unwrap_or_default().iter().take(8) {
            if let Ok(file) = volume.open_stream(id, &stream.name) {
                read(&*file);
            }
        }
        if !matches!(kind, Ok(EntryKind::Folder)) {
            continue;
        }
        for (name, child) in names(volume, id) {
            let _found = volume.lookup(id, &name);
            if seen.insert(child) {
                open.push(child);
            }
        }
    }
    let mut last = 0;
    let _free = volume.free_space(&mut |range| {
        assert!(last <= range.start && range.start < range.end);
        last = range.end;
        ControlFlow::Continue(())
    });
    seen.len()
}

/// The names in a folder. A walk that is broken off and goes on sees the same as one that is not.
fn names(volume: &dyn Volume, folder: EntryId) -> Vec<(Vec<u8>, EntryId)> {
    let mut found = Vec::new();
    let mut cookies = Vec::new();
    let whole = volume.read_dir(folder, 0, &mut |entry| {
        assert!(!entry.name.is_empty() && !entry.name.contains(&b'/') && !entry.name.contains(&0));
        assert!(entry.name != b"." && entry.name != b"..");
        assert_ne!(entry.cookie, 0);
        cookies.push(entry.cookie);
        found.push((entry.name, entry.id));
        if found.len() < MAX_ENTRIES {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    });
    if let Some(middle) = cookies.get(cookies.len() / 2)
        && whole.is_ok()
    {
        let mut rest = Vec::new();
        let _same = volume.read_dir(folder, *middle, &mut |entry| {
            rest.push((entry.name, entry.id));
            if rest.len() < MAX_ENTRIES {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        });
        let expected = &found[cookies.len() / 2 + 1..];
        assert!(
            rest.starts_with(expected),
            "a walk that goes on misses names or repeats them"
        );
    }
    found
}

/// Reads a file, at its start, in its middle and at its end; its holes are zeros.
pub fn read(file: &dyn ReadAt) {
    let size = file.size();
    let mut buffer = vec![0; LOOK as usize];
    for at in [0, size / 2, size.saturating_sub(LOOK)] {
        let length = (size - at).min(LOOK);
        let range = at..at + length;
        let bytes = &mut buffer[..length as usize];
        if file.read_exact_at(at, bytes).is_err() {
            continue;
        }
        let Ok(extents) = file.data_extents(range.clone()) else {
            continue;
        };
        let mut from = at;
        let end = range.end..range.end;
        for extent in extents.iter().chain(std::iter::once(&end)) {
            assert!(from <= extent.start && extent.end <= range.end);
            let hole = &bytes[(from - at) as usize..(extent.start - at) as usize];
            assert!(hole.iter().all(|byte| *byte == 0), "data in a hole");
            from = extent.end;
        }
    }
}
