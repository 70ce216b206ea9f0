//! What tells what is encrypted on write: the table in its two copies and a bitmap, as `dissect.fve` and libbde know them.
#![allow(dead_code, reason = "each test uses a part")]

use std::ops::Range;

/// One of the two records of a bitmap.
#[derive(Clone)]
pub struct Record {
    pub number: u64,
    pub chunks: u32,
    pub bits: Vec<u8>,
}

/// A table and its one bitmap.
#[derive(Clone)]
pub struct Map {
    pub sector: u32,
    pub chunk: u32,
    pub region: Range<u64>,
    /// Where the copies of the table lie, the bitmap, and the log.
    pub tables: [u64; 2],
    pub bitmap: u64,
    pub log: Range<u64>,
    /// Bytes that each record has room for.
    pub room: u32,
    pub records: [Record; 2],
}

fn summed(mut bytes: Vec<u8>, at: usize) -> Vec<u8> {
    bytes[at..at + 4].fill(0);
    let sum = crc32fast::hash(&bytes);
    bytes[at..at + 4].copy_from_slice(&sum.to_le_bytes());
    bytes
}

impl Map {
    /// What lies where.
    pub fn pieces(&self) -> Vec<(u64, Vec<u8>)> {
        let table = self.table(1, &[self.bitmap]);
        let tables = self.tables.map(|at| (at, table.clone()));
        tables
            .into_iter()
            .chain([(self.bitmap, self.whole_bitmap())])
            .collect()
    }

    /// A copy of the table that says that it has so many regions, and these bitmaps.
    pub fn table(&self, count: u32, bitmaps: &[u64]) -> Vec<u8> {
        let mut table = b"FVE-EOW\0".to_vec();
        let length = 56 + 8 * u16::try_from(bitmaps.len()).unwrap();
        table.extend([56, length].map(u16::to_le_bytes).concat());
        let log = u32::try_from(self.log.end - self.log.start).unwrap();
        let numbers = [self.sector, 4096, self.chunk, log, 512, count, 0];
        table.extend(numbers.map(u32::to_le_bytes).concat());
        table.extend(self.tables.map(u64::to_le_bytes).concat());
        table.extend(bitmaps.iter().flat_map(|at| at.to_le_bytes()));
        summed(table, 36)
    }

    /// Where the records lie in the bitmap, and its length.
    pub fn places(&self) -> [u32; 3] {
        [0x200, 0x200 + self.room, 2 * (0x200 + self.room)]
    }

    fn whole_bitmap(&self) -> Vec<u8> {
        let [first, second, end] = self.places();
        let mut bitmap = b"FVE-EOWBM\0".to_vec();
        bitmap.extend(60u16.to_le_bytes());
        bitmap.extend([end, 0].map(u32::to_le_bytes).concat());
        let size = self.region.end - self.region.start;
        let places = [self.region.start, size, self.log.start];
        bitmap.extend(places.map(u64::to_le_bytes).concat());
        bitmap.extend([first, second, self.room, 0].map(u32::to_le_bytes).concat());
        bitmap.resize(first as usize, 0);
        let mut bitmap = summed(bitmap, 56);
        for (record, end) in self.records.iter().zip([second, end]) {
            bitmap.extend(written(record));
            assert!(bitmap.len() <= end as usize);
            bitmap.resize(end as usize, 0);
        }
        bitmap
    }
}

fn written(record: &Record) -> Vec<u8> {
    let mut bytes = b"FVE-EOWBR\0".to_vec();
    bytes.extend(36u16.to_le_bytes());
    let length = 36 + u32::try_from(record.bits.len()).unwrap();
    bytes.extend([length, record.chunks].map(u32::to_le_bytes).concat());
    bytes.extend(record.number.to_le_bytes());
    bytes.extend([0; 8]);
    bytes.extend(&record.bits);
    summed(bytes, 32)
}
