//! Encrypted volumes.

use crate::guests::read;
use crate::pieces::Pieces;
use cairn_base::ReadAt;
use cairn_guest::bitlocker::BitLocker;
use cairn_guest::probe::{detect, volumes};
use cairn_guest::{Keys, open_volume};
use std::sync::Arc;

/// Bytes of a volume.
const MAX_VOLUME: u64 = 64 << 20;
/// Bytes of a copy of the metadata that are looked at to make its checksum right.
const MAX_BLOCK: usize = 0x1_0000;

/// A BitLocker volume, and a startup key; if the first byte is odd, the checksums of its metadata are made right, and if its next bit is set too, those of what is encrypted on
/// write. No passwords are tried, because each takes a good part of a second.
pub fn bitlocker(data: &[u8]) -> bool {
    let Some((flags, rest)) = data.split_first() else {
        return false;
    };
    let mut image = rest.to_vec();
    if flags & 1 != 0 {
        mend(&mut image, flags & 2 != 0);
    }
    let mut keys = Keys::new();
    let is_key = keys.add_startup_key(rest).is_ok();
    let device: Arc<dyn ReadAt> = Arc::new(Pieces::parse(&image, MAX_VOLUME));
    if let Ok(layout) = volumes(&device, None) {
        for volume in layout.volumes.iter().take(8) {
            let _told = volume.bitlocker();
        }
    }
    let (_told, _opened) = (detect(&*device), open_volume(device.clone()).map(|_| ()));
    let Ok(locked) = BitLocker::open(device.clone()) else {
        return is_key;
    };
    let info = locked.info();
    let _shown = format!("{info:?} {} {} {}", info.method, info.state, info.id);
    assert!(info.protectors.len() <= 64);
    match locked.unlock(&keys) {
        Ok(unlocked) => {
            let shown = unlocked.device();
            assert!(shown.size() <= device.size());
            read(&*shown);
            let mut byte = [0];
            assert!(shown.read_exact_at(shown.size(), &mut byte).is_err());
        }
        Err(error) => drop(error.to_string()),
    }
    true
}

struct Mending(Vec<u8>, Pieces);

impl Mending {
    fn bytes(&self, at: u64, length: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.1.read_exact_at(at, &mut bytes).ok()?;
        Some(bytes)
    }

    fn number(&self, at: u64, length: usize) -> Option<u64> {
        let bytes = self.bytes(at, length)?;
        let digits = bytes.iter().rev();
        Some(digits.fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    /// Appends a piece of four bytes.
    fn put(&mut self, at: u64, sum: u32) {
        self.0.push(0);
        self.0.extend(&at.to_le_bytes()[..5]);
        self.0.extend([4, 0, 0]);
        self.0.extend(sum.to_le_bytes());
        self.1 = Pieces::parse(&self.0, MAX_VOLUME);
    }

    /// Makes the checksum at `place` of a structure right, which counts as zeros in it.
    fn sum(&mut self, at: u64, length: u64, place: usize) -> Option<()> {
        let length = usize::try_from(length)
            .ok()
            .filter(|length| *length <= MAX_BLOCK)?;
        let mut bytes = self.bytes(at, length)?;
        bytes.get_mut(place..place + 4)?.fill(0);
        self.put(at + place as u64, crc32fast::hash(&bytes));
        Some(())
    }

    fn metadata(&mut self, at: u64) -> Option<()> {
        let unit = if self.number(at + 10, 2)? == 1 { 1 } else { 16 };
        let length = self.number(at + 8, 2)? * unit;
        let length = usize::try_from(length)
            .ok()
            .filter(|length| *length <= MAX_BLOCK)?;
        let sum = crc32fast::hash(&self.bytes(at, length)?);
        self.put(at + length as u64 + 4, sum);
        Some(())
    }

    fn on_write(&mut self, at: u64) -> Option<()> {
        let length = self.number(at + 10, 2)?;
        let bitmap = self.number(at + 56, 8)?;
        self.sum(at, length, 36)?;
        let records = [self.number(bitmap + 44, 4)?, self.number(bitmap + 48, 4)?];
        self.sum(bitmap, records[0], 56)?;
        for record in records {
            let record = bitmap + record;
            self.sum(record, self.number(record + 12, 4)?, 32)?;
        }
        Some(())
    }
}

/// Appends pieces that make checksums right.
fn mend(image: &mut Vec<u8>, with_bitmaps: bool) {
    let pieces = Pieces::parse(image, MAX_VOLUME);
    let mut mending = Mending(std::mem::take(image), pieces);
    for place in [160u64, 424] {
        for copy in 1..=3u64 {
            let offset = mending.number(place + 8 + copy * 8, 8);
            let _there = offset
                .filter(|at| *at < MAX_VOLUME)
                .and_then(|at| mending.metadata(at));
        }
        for copy in 0..2u64 {
            let offset = mending.number(place + 40 + copy * 8, 8);
            let offset = offset.filter(|at| with_bitmaps && *at < MAX_VOLUME && *at > 0);
            let _there = offset.and_then(|at| mending.on_write(at));
        }
    }
    // Vista's header counts clusters.
    let cluster = mending.number(11, 2).zip(mending.number(13, 1));
    let cluster = cluster.map(|(sector, count)| sector * count);
    let first = cluster.zip(mending.number(56, 8));
    let first = first.and_then(|(cluster, number)| cluster.checked_mul(number));
    let _there = first
        .filter(|at| *at < MAX_VOLUME)
        .and_then(|at| mending.metadata(at));
    *image = mending.0;
}
