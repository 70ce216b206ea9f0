//! Images of a chain, written block by block, and what they should read as.

use cairn_disk::Guid;
use cairn_disk::vhd::dynamic::DynamicHeader;
use cairn_disk::vhd::footer::{DiskType, Footer, Geometry};
use cairn_disk::vhdx::header::Header;
use cairn_disk::vhdx::metadata::{Metadata, PARENT_LOCATOR, TABLE_SIZE};
use cairn_disk::vhdx::region::Regions;
use cairn_disk::vhdx::{bat, header, region};
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const MIB: u64 = 1 << 20;

/// What was done to a disk while an image was its youngest.
#[derive(Debug, Clone)]
pub enum Op {
    /// Sectors were written with what [`byte`] says.
    Data(Range<u64>),
    /// Sectors were written with zeros.
    Zeros(Range<u64>),
    /// A block got this state of \[MS-VHDX\] 2.5.1.1 and has no data.
    State(u64, u64),
}

/// What a sector of an image holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value {
    Data,
    Zeros,
    /// Zeros without a place in the file.
    NoData,
    Parent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Vhd,
    Vhdx,
}

/// An image.
#[derive(Debug, Clone)]
pub struct Image {
    pub kind: Kind,
    pub path: PathBuf,
    pub size: u64,
    pub block_size: u32,
    pub sector: u64,
    /// Stands for its id, or DataWriteGuid, and for its data.
    pub number: u16,
    pub parent: Option<Parent>,
    pub ops: Vec<Op>,
}

/// What an image says of its parent.
#[derive(Debug, Clone)]
pub struct Parent {
    pub id: Guid,
    /// VHD only: seconds since 2000.
    pub modified: u32,
    /// Kind of place, and the path: `W2ru`, ... in a VHD, `relative_path`, ... in a VHDX.
    pub places: Vec<(&'static str, String)>,
}

impl Parent {
    /// The parent `number`, which lies beside the child.
    pub fn beside(kind: Kind, number: u16, path: &Path) -> Parent {
        let name = path.file_name().unwrap().to_str().unwrap();
        let relative = format!(r".\{name}");
        let places = match kind {
            // libvhdi goes by the name in the header.
            Kind::Vhd => vec![("W2ru", relative), ("name", name.to_string())],
            // And here by the absolute one.
            Kind::Vhdx => vec![
                ("relative_path", relative),
                ("absolute_win32_path", format!(r"C:\disks\{name}")),
            ],
        };
        Parent {
            id: id(number),
            modified: 0,
            places,
        }
    }
}

pub fn id(number: u16) -> Guid {
    Guid::from_printed(0xCA15_0000_0000_0000_0000_0000_0000_0000 | u128::from(number))
}

/// What image `number` writes at `offset` of the disk.
pub fn byte(number: u16, offset: u64) -> u8 {
    ((offset >> 9) * 31 + offset % 509 + u64::from(number) * 97) as u8 | 1
}

impl Image {
    fn value(&self, sector: u64) -> Value {
        let per_block = u64::from(self.block_size) / self.sector;
        for op in self.ops.iter().rev() {
            match op {
                Op::Data(range) if range.contains(&sector) => return Value::Data,
                Op::Zeros(range) if range.contains(&sector) => return Value::Zeros,
                Op::State(block, state) if sector / per_block == *block => {
                    return if *state == 0 {
                        Value::Parent
                    } else {
                        Value::NoData
                    };
                }
                _ => {}
            }
        }
        Value::Parent
    }

    fn blocks(&self) -> u64 {
        self.size.div_ceil(u64::from(self.block_size))
    }

    /// Values of the sectors of a block that belong to the disk.
    fn values(&self, block: u64) -> Vec<Value> {
        let block_size = u64::from(self.block_size);
        let bytes = block_size.min(self.size - block * block_size);
        let first = block * block_size / self.sector;
        (first..first + bytes / self.sector)
            .map(|sector| self.value(sector))
            .collect()
    }

    /// Blocks that some operation touches.
    fn touched(&self) -> Vec<u64> {
        let per_block = u64::from(self.block_size) / self.sector;
        let mut blocks: Vec<u64> = Vec::new();
        for op in &self.ops {
            match op {
                Op::Data(range) | Op::Zeros(range) => {
                    blocks.extend(range.start / per_block..=(range.end - 1) / per_block);
                }
                Op::State(block, _) => blocks.push(*block),
            }
        }
        blocks.sort_unstable();
        blocks.dedup();
        blocks.retain(|block| *block < self.blocks());
        blocks
    }

    /// Writes the sectors of a block to `place`, and something that must not be seen where they are the parent's.
    fn put_block(&self, file: &File, block: u64, values: &[Value], place: u64) {
        let start = block * u64::from(self.block_size);
        let mut hidden = 0;
        let mut at = 0;
        while at < values.len() {
            let run = values[at..]
                .iter()
                .take_while(|v| **v == values[at])
                .count();
            let from = at as u64 * self.sector;
            let length = run as u64 * self.sector;
            match values[at] {
                Value::Data => {
                    let bytes: Vec<u8> = (0..length)
                        .map(|n| byte(self.number, start + from + n))
                        .collect();
                    file.write_all_at(&bytes, place + from).unwrap();
                }
                Value::Parent if hidden < 4 => {
                    let bytes = vec![0xEE; length.min(4096) as usize];
                    file.write_all_at(&bytes, place + from).unwrap();
                    hidden += 1;
                }
                Value::Parent | Value::Zeros | Value::NoData => {}
            }
            at += run;
        }
    }

    /// Writes the file.
    pub fn write(&self) {
        match self.kind {
            Kind::Vhd => self.write_vhd(),
            Kind::Vhdx => self.write_vhdx(),
        }
    }

    fn write_vhd(&self) {
        let file = File::create(&self.path).unwrap();
        let footer = Footer {
            data_offset: 512,
            timestamp: 1_000_000 + u32::from(self.number),
            creator: *b"win ",
            current_size: self.size,
            geometry: Geometry::of(self.size),
            disk_type: match self.parent {
                Some(_) => DiskType::Differencing,
                None => DiskType::Dynamic,
            },
            unique_id: id(self.number),
            checksum_holds: true,
        }
        .encode();
        let entries = self.blocks() as u32;
        // Eight locators of 4 KiB have room behind the header.
        let table_offset = 1536 + 8 * 4096;
        let table = DynamicHeader {
            table_offset,
            entries,
            block_size: self.block_size,
        };
        let mut header = table.encode();
        if let Some(parent) = &self.parent {
            put_vhd_parent(&file, &mut header, parent);
        }
        file.write_all_at(&footer, 0).unwrap();
        file.write_all_at(&header, 512).unwrap();
        let mut bat = vec![0xFF; (entries as usize * 4).next_multiple_of(512)];
        let mut end = table_offset + bat.len() as u64;
        let bitmap_size = cairn_disk::vhd::bitmap::size(self.block_size);
        for block in self.touched() {
            let values = self.values(block);
            let at = block as usize * 4;
            bat[at..at + 4].copy_from_slice(&((end / 512) as u32).to_be_bytes());
            let mut bits = vec![0u8; bitmap_size as usize];
            for (sector, value) in values.iter().enumerate() {
                if *value != Value::Parent {
                    bits[sector / 8] |= 0x80 >> (sector % 8);
                }
            }
            file.write_all_at(&bits, end).unwrap();
            self.put_block(&file, block, &values, end + bitmap_size);
            end += bitmap_size + u64::from(self.block_size);
        }
        file.write_all_at(&bat, table_offset).unwrap();
        file.write_all_at(&footer, end).unwrap();
    }

    fn write_vhdx(&self) {
        let file = File::create(&self.path).unwrap();
        let block_size = u64::from(self.block_size);
        let ratio = bat::chunk_ratio(self.block_size, self.sector as u32);
        let chunks = self.blocks().div_ceil(ratio);
        let mut table = vec![0u64; (chunks * (ratio + 1)) as usize];
        let bat_size = (table.len() as u64 * 8).next_multiple_of(MIB);
        let regions = Regions {
            metadata: 2 * MIB..3 * MIB,
            bat: 3 * MIB..3 * MIB + bat_size,
        };
        let mut end = regions.bat.end;
        // Bytes of the disk that a bitmap is for, and its place.
        let mut bitmaps: Vec<Option<u64>> = vec![None; chunks as usize];
        for block in self.touched() {
            let values = self.values(block);
            let slot = bat::index(block, ratio) as usize;
            if values.iter().all(|value| *value == Value::NoData) {
                let state = self.ops.iter().rev().find_map(|op| match op {
                    Op::State(at, state) if *at == block => Some(*state),
                    _ => None,
                });
                table[slot] = state.unwrap();
                continue;
            }
            if values.iter().all(|value| *value == Value::Parent) {
                continue;
            }
            let place = end;
            end += block_size;
            self.put_block(&file, block, &values, place);
            let has_parent = self.parent.is_some();
            if !values.contains(&Value::Parent) || !has_parent {
                table[slot] = bat::present(place);
                if !has_parent {
                    // There is nothing to hide behind a bitmap.
                    self.clear_parents(&file, &values, place);
                }
                continue;
            }
            table[slot] = place | 7;
            let chunk = (block / ratio) as usize;
            let bitmap = *bitmaps[chunk].get_or_insert_with(|| {
                let place = end;
                end += MIB;
                place
            });
            table[chunk * (ratio as usize + 1) + ratio as usize] = bat::present(bitmap);
            let sectors = block_size / self.sector;
            let mut bits = vec![0u8; sectors as usize / 8];
            for (sector, value) in values.iter().enumerate() {
                if *value != Value::Parent {
                    bits[sector / 8] |= 1 << (sector % 8);
                }
            }
            let at = bitmap + block % ratio * sectors / 8;
            file.write_all_at(&bits, at).unwrap();
        }
        file.set_len(end).unwrap();
        self.put_tables(&file, &regions, &table);
    }

    fn put_tables(&self, file: &File, regions: &Regions, table: &[u64]) {
        let entries: Vec<u8> = table.iter().flat_map(|entry| entry.to_le_bytes()).collect();
        file.write_all_at(&entries, regions.bat.start).unwrap();
        file.write_all_at(b"vhdxfile", 0).unwrap();
        for (sequence, at) in (1..).zip(header::OFFSETS) {
            let header = self.vhdx_header(sequence);
            file.write_all_at(&header.encode(), at).unwrap();
        }
        for at in region::OFFSETS {
            file.write_all_at(&regions.encode(), at).unwrap();
        }
        file.write_all_at(&self.metadata(), regions.metadata.start)
            .unwrap();
    }

    fn clear_parents(&self, file: &File, values: &[Value], place: u64) {
        for (at, value) in values.iter().enumerate() {
            if *value == Value::Parent {
                let zeros = vec![0; self.sector as usize];
                file.write_all_at(&zeros, place + at as u64 * self.sector)
                    .unwrap();
            }
        }
    }

    pub fn vhdx_header(&self, sequence: u64) -> Header {
        Header {
            sequence,
            file_write_id: id(9999),
            data_write_id: id(self.number),
            log_id: Guid::NIL,
            log_version: 0,
            log_length: MIB as u32,
            log_offset: MIB,
        }
    }

    fn metadata(&self) -> Vec<u8> {
        let plain = Metadata {
            block_size: self.block_size,
            leave_allocated: false,
            disk_size: self.size,
            disk_id: id(7777),
            logical_sector: self.sector as u32,
            physical_sector: 4096,
            parent: None,
        };
        let mut region = plain.encode();
        let Some(parent) = &self.parent else {
            return region;
        };
        let mut pairs = vec![("parent_linkage", format!("{{{}}}", parent.id))];
        pairs.extend(parent.places.iter().cloned());
        let locator = vhdx_locator(&pairs);
        // The sixth item; the flag of the first one says that there is a parent.
        region[TABLE_SIZE + 4] |= 2;
        region[10] = 6;
        let entry = [
            &PARENT_LOCATOR.to_windows()[..],
            &(512u32 << 10).to_le_bytes(),
            &(locator.len() as u32).to_le_bytes(),
            &4u32.to_le_bytes(),
        ]
        .concat();
        region[32 + 5 * 32..][..entry.len()].copy_from_slice(&entry);
        region[512 << 10..][..locator.len()].copy_from_slice(&locator);
        region
    }
}

fn put_vhd_parent(file: &File, header: &mut [u8], parent: &Parent) {
    header[40..56].copy_from_slice(&parent.id.0);
    header[56..60].copy_from_slice(&parent.modified.to_be_bytes());
    for (index, (code, path)) in parent.places.iter().enumerate() {
        if *code == "name" {
            for (at, unit) in path.encode_utf16().enumerate() {
                header[64 + 2 * at..][..2].copy_from_slice(&unit.to_be_bytes());
            }
            continue;
        }
        let bytes: Vec<u8> = if code.starts_with("W2") {
            path.encode_utf16().flat_map(u16::to_le_bytes).collect()
        } else {
            path.bytes().collect()
        };
        let at = 1536 + index as u64 * 4096;
        file.write_all_at(&bytes, at).unwrap();
        let entry = &mut header[576 + 24 * index..][..24];
        entry[..4].copy_from_slice(code.as_bytes());
        entry[4..8].copy_from_slice(&4096u32.to_be_bytes());
        entry[8..12].copy_from_slice(&(bytes.len() as u32).to_be_bytes());
        entry[16..].copy_from_slice(&at.to_be_bytes());
    }
    header[36..40].fill(0);
    let sum = header
        .iter()
        .fold(0u32, |sum, byte| sum.wrapping_add(u32::from(*byte)));
    header[36..40].copy_from_slice(&(!sum).to_be_bytes());
}

fn vhdx_locator(pairs: &[(&str, String)]) -> Vec<u8> {
    let kind = Guid::from_printed(0xB04AEFB7_D19E_4A81_B789_25B8E9445913);
    let mut bytes = kind.to_windows().to_vec();
    bytes.extend_from_slice(&[0; 2]);
    bytes.extend_from_slice(&(pairs.len() as u16).to_le_bytes());
    let mut texts: Vec<u8> = Vec::new();
    for (key, value) in pairs {
        let at = 20 + 12 * pairs.len() + texts.len();
        let utf16 =
            |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_le_bytes).collect() };
        let (key, value) = (utf16(key), utf16(value));
        for offset in [at, at + key.len()] {
            bytes.extend_from_slice(&(offset as u32).to_le_bytes());
        }
        for length in [key.len(), value.len()] {
            bytes.extend_from_slice(&(length as u16).to_le_bytes());
        }
        texts.extend(key);
        texts.extend(value);
    }
    bytes.extend(texts);
    bytes
}

/// What `chain`, the child first, reads as at `offset`.
pub fn expected(chain: &[Image], offset: u64, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length);
    let end = offset + length as u64;
    let mut at = offset;
    while at < end {
        let sector = chain[0].sector;
        let next = (at / sector + 1) * sector;
        let found = chain
            .iter()
            .filter(|image| at < image.size)
            .map(|image| (image, image.value(at / image.sector)))
            .find(|(_, value)| *value != Value::Parent);
        for offset in at..next.min(end) {
            bytes.push(match found {
                Some((image, Value::Data)) => byte(image.number, offset),
                _ => 0,
            });
        }
        at = next;
    }
    bytes
}
