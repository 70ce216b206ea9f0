//! Packs with parity: whatever is damaged, what is given out is what was written; and footers and tables that say anything at all.

use crate::memory::Memory;
use cairn_base::read_at::read_vec;
use cairn_base::{Folder, Kind, PackId, ReadAt};
use cairn_store::frame::BuiltFrame;
use cairn_store::hash::{ChunkKind, Keys};
use cairn_store::header::Header;
use cairn_store::pack::footer::{FOOTER_LEN, Footer};
use cairn_store::pack::toc::Toc;
use cairn_store::pack::{Healed, PackKind, PackReader, PackWriter};
use cairn_store::parity::shape::{SHARD, Shape};
use cairn_store::parity::table::{self, Sum, sum_of};
use cairn_store::{CutParameters, layout};
use std::ops::Range;
use std::sync::OnceLock;

const STORE: [u8; 16] = [5; 16];

/// Percent of parity, and bytes in frames.
const PACKS: [(u32, usize); 8] = [
    (25, 0),
    (1, 100),
    (3, 5000),
    (10, 70_000),
    (25, 70_000),
    (3, 600_000),
    (1, 1_000_000),
    (10, 4_300_000),
];

/// A pack as it was written.
struct Made {
    id: PackId,
    bytes: Vec<u8>,
    footer: Footer,
    shape: Shape,
    sums: Vec<Sum>,
    toc: Toc,
}

fn keys() -> Keys {
    Keys::derive(&[9; 32])
}

fn made(number: u8) -> &'static Made {
    static MADE: [OnceLock<Made>; PACKS.len()] = [const { OnceLock::new() }; PACKS.len()];
    let number = usize::from(number) % PACKS.len();
    MADE[number].get_or_init(|| make(PACKS[number]))
}

fn make((percent, length): (u32, usize)) -> Made {
    let folder = Memory::default();
    folder.create_folder("s").unwrap();
    let header = Header {
        store: STORE,
        read_flags: 0,
        write_flags: 0,
        created: 0,
        cut: CutParameters::default(),
        id_key: [2; 32],
        parity: percent,
    };
    let keys = keys();
    let mut writer = PackWriter::create(&folder, "s", &header, PackKind::Data).unwrap();
    let mut bytes = vec![0; length];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    for part in bytes.chunks(1 << 16) {
        let id = keys.chunk_id(ChunkKind::Data, part);
        let frame = BuiltFrame {
            stored: part.to_vec(),
            plain: true,
            raw_length: part.len(),
            tag: keys.frame_tag(part),
            chunks: vec![(id, part.len() as u32)],
        };
        writer.append(&frame).unwrap();
    }
    let sealed = writer.seal().unwrap();
    let bytes = folder.get(&sealed.path).unwrap();
    folder.put(&layout::pack(sealed.id), bytes.clone());
    let pack = PackReader::open(&folder, STORE, sealed.id).unwrap();
    let footer = *pack.footer();
    let shape = footer.shape().unwrap().unwrap();
    let sums = table::read(&bytes, sealed.id, &shape).unwrap();
    Made {
        id: sealed.id,
        footer,
        shape,
        sums: sums.into_iter().map(Option::unwrap).collect(),
        toc: pack.toc().clone(),
        bytes,
    }
}

/// A pack with parity that is damaged. The first byte says which; then what happens to it, as [`Damaged::next`] reads it.
pub fn restore(data: &[u8]) -> bool {
    let Some((&number, rest)) = data.split_first() else {
        return false;
    };
    let made = made(number);
    let mut damaged = Damaged {
        made,
        bytes: made.bytes.clone(),
        sums: made.sums.clone(),
        honest: true,
    };
    let mut rest = rest;
    for _ in 0..32 {
        match damaged.next(rest) {
            Some(after) => rest = after,
            None => break,
        }
    }
    let folder = Memory::default();
    folder.put(&layout::pack(made.id), damaged.bytes.clone());
    let opened = Healed::new(folder.open(&layout::pack(made.id)).unwrap(), STORE, made.id);
    match (&opened, damaged.honest) {
        (Ok(healed), true) => damaged.check(healed),
        (Ok(healed), false) => look_at(healed),
        (Err(error), honest) => {
            assert!(!honest || error.kind() == Kind::Damaged);
            assert!(!honest || !damaged.has_a_footer(), "{error}");
        }
    }
    read_frames(&folder, made);
    opened.is_ok()
}

/// The pack, and what became of it.
struct Damaged<'a> {
    made: &'a Made,
    bytes: Vec<u8>,
    sums: Vec<Sum>,
    /// Whether nothing was given a right checksum: what a disk does, not what an enemy does.
    honest: bool,
}

impl Damaged<'_> {
    /// What happens next: a kind (1), a place as a part of the file (3), a value (1), and what the kind takes.
    fn next<'b>(&mut self, data: &'b [u8]) -> Option<&'b [u8]> {
        let (&[kind, a, b, c, value], mut rest) = data.split_first_chunk::<5>()?;
        let place = u64::from(u32::from_le_bytes([a, b, c, 0]));
        let part = |whole: usize| ((place * whole as u64) >> 24) as usize;
        let at = part(self.bytes.len());
        match kind % 8 {
            0 => {
                if let Some(byte) = self.bytes.get_mut(at) {
                    *byte ^= value.max(1);
                }
            }
            1 => self.fill(at, 1, value),
            2 => self.fill(at, usize::from(value), 0x55),
            3 => self.bytes.truncate(at),
            4 => self
                .bytes
                .resize(self.bytes.len() + usize::from(value), value),
            5 => self.swap(at / SHARD, usize::from(value)),
            6 => rest = self.footer(value, rest)?,
            _ => rest = self.sum(part(self.sums.len()), value, rest)?,
        }
        Some(rest)
    }

    fn fill(&mut self, at: usize, sectors: usize, value: u8) {
        let start = at / SHARD * SHARD;
        let end = (start + sectors * SHARD).min(self.bytes.len());
        if let Some(bytes) = self.bytes.get_mut(start..end) {
            bytes.fill(value);
        }
    }

    fn swap(&mut self, one: usize, other: usize) {
        let whole = self.bytes.len() / SHARD;
        if one < whole && other < whole {
            for at in 0..SHARD {
                self.bytes.swap(one * SHARD + at, other * SHARD + at);
            }
        }
    }

    /// A footer that says something else, with a right checksum: what is added to each number (4 bytes each, 1 for the percent).
    fn footer<'b>(&mut self, which: u8, data: &'b [u8]) -> Option<&'b [u8]> {
        let (numbers, rest) = data.split_first_chunk::<21>()?;
        let number = |of: u64, at: usize| {
            let bytes = [
                numbers[at],
                numbers[at + 1],
                numbers[at + 2],
                numbers[at + 3],
            ];
            of.wrapping_add_signed(i64::from(i32::from_le_bytes(bytes)))
        };
        let footer = Footer {
            toc_offset: number(self.made.footer.toc_offset, 0),
            toc_length: number(self.made.footer.toc_length, 4),
            parity_offset: number(self.made.footer.parity_offset, 8),
            parity_length: number(self.made.footer.parity_length, 12),
            length: number(self.made.footer.length, 16),
            percent: self
                .made
                .footer
                .percent
                .wrapping_add(u32::from(numbers[20])),
            ..self.made.footer
        };
        let at = match which & 1 {
            0 => self.bytes.len().saturating_sub(FOOTER_LEN),
            _ => self.made.footer.parity_offset as usize,
        };
        self.put(at, &footer.encode());
        self.honest = false;
        Some(rest)
    }

    /// Both tables say something else of a shard: any 4 bytes, or what is right for the bytes that lie there now.
    fn sum<'b>(&mut self, number: usize, which: u8, data: &'b [u8]) -> Option<&'b [u8]> {
        let (said, rest) = data.split_first_chunk::<4>()?;
        let shard = self.shards().nth(number)?;
        let mut now = self.bytes.get(shard).unwrap_or_default().to_vec();
        now.resize(SHARD, 0);
        self.sums[number] = if which & 1 == 0 { sum_of(&now) } else { *said };
        let table = table::encode(self.made.id, &self.sums);
        for at in self.made.shape.tables() {
            self.put(at as usize, &table);
        }
        self.honest = false;
        Some(rest)
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        for (to, from) in self.bytes.iter_mut().skip(at).zip(bytes) {
            *to = *from;
        }
    }

    /// Where each shard lies, in the order of their sums.
    fn shards(&self) -> impl Iterator<Item = Range<usize>> {
        let shape = &self.made.shape;
        (0..shape.stripes()).flat_map(move |stripe| {
            let data = (0..shape.data_of(stripe)).map(move |n| shape.data_range(stripe, n));
            let parity = (0..shape.parity_of(stripe)).map(move |n| shape.parity_range(stripe, n));
            data.chain(parity)
                .map(|range| range.start as usize..range.end as usize)
        })
    }

    fn is_as_written(&self, range: Range<usize>) -> bool {
        self.bytes.get(range.clone()) == self.made.bytes.get(range)
    }

    fn has_a_footer(&self) -> bool {
        let copy = self.made.footer.parity_offset as usize;
        let last = self.made.bytes.len() - FOOTER_LEN..self.made.bytes.len();
        self.is_as_written(copy..copy + FOOTER_LEN)
            || self.bytes.len() == self.made.bytes.len() && self.is_as_written(last)
    }

    /// What is given out is what was written; and what the parity is enough for is given out.
    fn check(&self, healed: &Healed) {
        let shape = &self.made.shape;
        assert_eq!(healed.size(), self.made.footer.length);
        let table = table::encode(self.made.id, &self.made.sums).len();
        let has_table = shape
            .tables()
            .iter()
            .any(|at| self.is_as_written(*at as usize..*at as usize + table));
        let mut shards = self.shards();
        for stripe in 0..shape.stripes() {
            let (data, parity) = (shape.data_of(stripe), shape.parity_of(stripe));
            let whole: Vec<bool> = shards
                .by_ref()
                .take(data + parity)
                .map(|range| self.is_as_written(range))
                .collect();
            let damaged = whole[..data].iter().filter(|whole| !**whole).count();
            let help = whole[data..].iter().filter(|whole| **whole).count();
            let start = shape.data_range(stripe, 0).start;
            let end = shape.data_range(stripe, data - 1).end;
            let read = read_vec(healed, start, (end - start) as usize);
            match read {
                Ok(bytes) => assert!(bytes == self.made.bytes[start as usize..end as usize]),
                Err(error) => {
                    assert_eq!(error.kind(), Kind::Damaged);
                    assert!(!has_table || damaged > help, "{damaged}, {help}: {error}");
                }
            }
        }
    }
}

/// Reads here and there, whatever the footer says.
fn look_at(healed: &Healed) {
    let size = healed.size();
    let mut buffer = vec![0; 10_000];
    for at in [0, size / 3, size / 2, size.saturating_sub(10_000)] {
        let length = (size - at).min(10_000) as usize;
        let _either_way = healed.read_exact_at(at, &mut buffer[..length]);
    }
}

/// Frames whose tags are right are those that were written.
fn read_frames(folder: &Memory, made: &Made) {
    let Ok((pack, _)) = PackReader::open_healed(folder, STORE, made.id) else {
        return;
    };
    assert_eq!(*pack.toc(), made.toc);
    let _either_way = pack.damaged_parity();
    let keys = keys();
    let mut stored = Vec::new();
    for (frame, _) in pack.frames() {
        if let Ok(true) = pack.stored(&keys, frame, &mut stored) {
            let start = frame.offset as usize;
            assert!(stored == made.bytes[start..start + frame.stored as usize]);
        }
    }
}
