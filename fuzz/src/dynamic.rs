//! Databases of dynamic disks, and the volumes that they tell of.

use crate::pieces::Pieces;
use cairn_base::ReadAt;
use cairn_guest::probe::{DynamicDisk, database, dynamic_volumes};
use std::sync::Arc;

/// Bytes of a disk.
const MAX_DISK: u64 = 1 << 40;
/// Bytes of a structure with a checksum.
const BLOCK: u64 = 512;
/// Bytes of a volume that are read at once.
const LOOK: u64 = 70_000;

/// Two disks of a group: the first byte says where the bytes of the second begin, in 256ths. If the next one is odd, checksums are made right.
pub fn group(data: &[u8]) -> bool {
    let [share, flags, rest @ ..] = data else {
        return false;
    };
    let (first, second) = rest.split_at(rest.len() * usize::from(*share) / 256);
    let mut members = Vec::new();
    for (number, bytes) in [first, second].into_iter().enumerate() {
        let mut image = bytes.to_vec();
        if flags & 1 != 0 {
            mend(&mut image);
        }
        let disk: Arc<dyn ReadAt> = Arc::new(Pieces::parse(&image, MAX_DISK));
        if let Ok(Some(database)) = database(&disk, None) {
            let name = format!("disk{number}");
            members.push(DynamicDisk {
                name,
                disk,
                database,
            });
        }
    }
    let mut is_read = false;
    let found = dynamic_volumes(&members, &[]);
    assert!(
        found
            .damage
            .iter()
            .all(|(member, _)| *member < members.len())
    );
    for (home, found) in found.volumes {
        assert!(home < members.len());
        let device = found.device();
        let size = device.size();
        for at in [0, size / 3, size.saturating_sub(LOOK)] {
            let length = (size - at).min(LOOK);
            is_read |= look(&**device, at, length);
        }
    }
    is_read
}

/// Reads a part of a volume; what it says is a hole is zeros.
fn look(device: &dyn ReadAt, at: u64, length: u64) -> bool {
    let mut bytes = vec![0; length as usize];
    if device.read_exact_at(at, &mut bytes).is_err() {
        return false;
    }
    let end = at + length;
    device.will_need(at..end);
    let Ok(extents) = device.data_extents(at..end) else {
        return false;
    };
    let mut from = at;
    for extent in extents.iter().chain(std::iter::once(&(end..end))) {
        assert!(from <= extent.start && extent.end <= end);
        let hole = &bytes[(from - at) as usize..(extent.start - at) as usize];
        assert!(hole.iter().all(|byte| *byte == 0), "data in a hole");
        from = extent.end;
    }
    length > 0
}

/// Appends pieces that make the checksums of headers and tables of contents right, where Windows puts them on a disk with a DOS table.
fn mend(image: &mut Vec<u8>) {
    let disk = Pieces::parse(image, MAX_DISK);
    let sectors = disk.size() / BLOCK;
    let database = sectors.saturating_sub(2048);
    let places = [
        6,
        database + 1,
        database + 2,
        database + 1856,
        sectors.saturating_sub(1),
    ];
    for sector in places {
        let mut block = [0; BLOCK as usize];
        if disk.read_exact_at(sector * BLOCK, &mut block).is_err() {
            continue;
        }
        block[8..12].fill(0);
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        image.push(0);
        image.extend(&(sector * BLOCK + 8).to_le_bytes()[..5]);
        image.extend([4, 0, 0]);
        image.extend(sum.to_be_bytes());
    }
}
