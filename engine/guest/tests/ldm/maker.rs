//! Makes dynamic disks, byte by byte, as Windows lays them out: with a DOS table or a GPT, with records of Windows 2000 or of Vista and later.
#![allow(dead_code, reason = "each program that makes disks uses a part")]

use super::records::{
    component_record, disk_record, group_record, partition_record, volume_record,
};

pub const SECTOR: usize = 512;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scheme {
    Mbr,
    Gpt,
}

#[derive(Clone)]
pub struct Disk {
    pub id: u64,
    pub name: String,
    pub guid: u128,
    pub sectors: u64,
}

#[derive(Clone)]
pub struct Extent {
    pub id: u64,
    pub flags: u32,
    /// Which of the disks.
    pub disk: usize,
    /// Sectors.
    pub start: u64,
    pub offset: u64,
    pub size: u64,
    pub column: u64,
}

#[derive(Clone)]
pub struct Component {
    pub id: u64,
    pub state: String,
    pub flags: u32,
    /// 1 striped, 2 concatenated, 3 RAID-5.
    pub layout: u8,
    /// Sectors.
    pub chunk: u64,
    pub extents: Vec<Extent>,
}

#[derive(Clone)]
pub struct Volume {
    pub id: u64,
    pub name: String,
    pub guid: u128,
    pub hint: String,
    /// Sectors.
    pub size: u64,
    pub components: Vec<Component>,
}

#[derive(Clone)]
pub struct Group {
    pub scheme: Scheme,
    /// Records of Vista and later.
    pub is_new: bool,
    pub guid: u128,
    pub name: String,
    pub sequence: u64,
    /// 1 at rest, 2 while a change is made, 3 when it is committed.
    pub status: u16,
    /// Sectors that each disk has for the database; Windows makes 2048.
    pub database: u64,
    pub disks: Vec<Disk>,
    pub volumes: Vec<Volume>,
    /// Records as they are, with their update status in front.
    pub more: Vec<Vec<u8>>,
}

pub fn guid_text(guid: u128) -> String {
    let digits = format!("{guid:032x}");
    let (a, b, c, d, e) = (
        &digits[..8],
        &digits[8..12],
        &digits[12..16],
        &digits[16..20],
        &digits[20..],
    );
    format!("{a}-{b}-{c}-{d}-{e}")
}

impl Group {
    pub fn new(scheme: Scheme, is_new: bool, disks: u64) -> Group {
        let disk = |index: u64| Disk {
            id: 0x100 + index,
            name: format!("Disk{}", index + 1),
            guid: 0xd15c_0000_1111_2222_3333_4444_5555_0000 + u128::from(index),
            sectors: 24 << 11,
        };
        Group {
            scheme,
            is_new,
            guid: 0x6709_0000_aaaa_bbbb_cccc_dddd_eeee_0001,
            name: "WEB01Dg0".to_string(),
            sequence: 41,
            status: 1,
            database: 2048,
            disks: (0..disks).map(disk).collect(),
            volumes: Vec::new(),
            more: Vec::new(),
        }
    }

    fn free(&self, disk: usize) -> u64 {
        let volumes = self.volumes.iter();
        let extents = volumes.flat_map(|volume| &volume.components);
        let extents = extents.flat_map(|component| &component.extents);
        let on = extents.filter(|extent| extent.disk == disk);
        on.map(|extent| extent.start + extent.size)
            .max()
            .unwrap_or(8)
    }

    /// Adds a volume of one component whose extents, of so many sectors, lie on these disks.
    pub fn add(
        &mut self,
        name: &str,
        layout: u8,
        chunk: u64,
        parts: &[(usize, u64)],
    ) -> &mut Volume {
        let columns = parts.len() as u64;
        let size = match layout {
            2 => parts.iter().map(|part| part.1).sum(),
            1 => parts[0].1 * columns,
            _ => parts[0].1 * (columns - 1),
        };
        let id = 0x400 + self.volumes.len() as u64 * 0x20;
        let component = self.component(id + 1, layout, chunk, parts);
        self.volumes.push(Volume {
            id,
            name: name.to_string(),
            guid: 0x0e00_0000_0000_4000_8000_0000_0000_0000 + u128::from(id),
            hint: String::new(),
            size,
            components: vec![component],
        });
        self.volumes.last_mut().unwrap()
    }

    pub fn component(&self, id: u64, layout: u8, chunk: u64, parts: &[(usize, u64)]) -> Component {
        let mut extents: Vec<Extent> = Vec::new();
        let mut offset = 0;
        for (index, &(disk, size)) in (0u64..).zip(parts) {
            let own = extents.iter().filter(|extent| extent.disk == disk);
            let start = own.map(|extent| extent.start + extent.size + 16).max();
            extents.push(Extent {
                id: id + 1 + index,
                flags: 0,
                disk,
                start: start.unwrap_or(self.free(disk)),
                offset: if layout == 2 { offset } else { 0 },
                size,
                column: index,
            });
            offset += size;
        }
        Component {
            id,
            state: "ACTIVE".to_string(),
            flags: 0,
            layout,
            chunk,
            extents,
        }
    }

    /// Adds a mirrored volume on these disks.
    pub fn mirror(&mut self, name: &str, size: u64, disks: &[usize]) -> &mut Volume {
        self.add(name, 2, 0, &[(disks[0], size)]);
        for (index, &disk) in (1u64..).zip(&disks[1..]) {
            let id = self.volumes.last().unwrap().id + 8 * index;
            let component = self.component(id, 2, 0, &[(disk, size)]);
            self.volumes.last_mut().unwrap().components.push(component);
        }
        self.volumes.last_mut().unwrap()
    }

    /// Where data begins on a disk, in sectors.
    pub fn data_start(&self) -> u64 {
        match self.scheme {
            Scheme::Mbr => 63,
            Scheme::Gpt => 34 + self.database + 256,
        }
    }

    fn config_start(&self, disk: &Disk) -> u64 {
        match self.scheme {
            Scheme::Mbr => disk.sectors - self.database,
            Scheme::Gpt => 34,
        }
    }

    /// The byte of a disk at which its database begins.
    pub fn database_at(&self, disk: usize) -> usize {
        self.config_start(&self.disks[disk]) as usize * SECTOR
    }

    /// The disks, with these bytes in the volumes.
    pub fn write(&self, contents: &[&[u8]]) -> Vec<Vec<u8>> {
        let empty = |disk: &Disk| vec![0; disk.sectors as usize * SECTOR];
        let mut disks: Vec<Vec<u8>> = self.disks.iter().map(empty).collect();
        for (index, disk) in disks.iter_mut().enumerate() {
            self.tables(index, disk);
            self.database(index, disk);
        }
        for (volume, content) in self.volumes.iter().zip(contents) {
            assert_eq!(content.len(), volume.size as usize * SECTOR);
            for component in &volume.components {
                self.scatter(component, content, &mut disks);
            }
        }
        disks
    }

    fn place(&self, extent: &Extent) -> usize {
        (self.data_start() + extent.start) as usize * SECTOR
    }

    fn scatter(&self, component: &Component, content: &[u8], disks: &mut [Vec<u8>]) {
        let chunk = component.chunk as usize * SECTOR;
        let columns = component.extents.len();
        let put = |disks: &mut [Vec<u8>], column: usize, at: usize, bytes: &[u8]| {
            let extent = &component.extents[column];
            let start = self.place(extent) + at;
            disks[extent.disk][start..start + bytes.len()].copy_from_slice(bytes);
        };
        match component.layout {
            2 => {
                let mut rest = content;
                for (index, extent) in component.extents.iter().enumerate() {
                    let length = (extent.size as usize * SECTOR).min(rest.len());
                    put(disks, index, 0, &rest[..length]);
                    rest = &rest[length..];
                }
            }
            1 => {
                for (number, bytes) in content.chunks(chunk).enumerate() {
                    put(disks, number % columns, number / columns * chunk, bytes);
                }
            }
            _ => {
                let width = chunk * (columns - 1);
                for (row, bytes) in content.chunks(width).enumerate() {
                    let mut parity = vec![0; chunk];
                    let at_parity = columns - 1 - row % columns;
                    for (index, bytes) in bytes.chunks(chunk).enumerate() {
                        put(disks, (at_parity + 1 + index) % columns, row * chunk, bytes);
                        parity
                            .iter_mut()
                            .zip(bytes)
                            .for_each(|(sum, byte)| *sum ^= byte);
                    }
                    put(disks, at_parity, row * chunk, &parity);
                }
            }
        }
    }

    fn tables(&self, index: usize, bytes: &mut [u8]) {
        let sectors = self.disks[index].sectors;
        bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
        bytes[440..444].copy_from_slice(&(0x1234_0000 + index as u32).to_le_bytes());
        let mut entry = |kind: u8, start: u32, length: u32| {
            bytes[446 + 4] = kind;
            bytes[446 + 8..446 + 12].copy_from_slice(&start.to_le_bytes());
            bytes[446 + 12..446 + 16].copy_from_slice(&length.to_le_bytes());
        };
        match self.scheme {
            Scheme::Mbr => entry(0x42, 63, sectors as u32 - 63),
            Scheme::Gpt => {
                entry(0xee, 1, sectors as u32 - 1);
                self.gpt(index, bytes);
            }
        }
    }

    fn gpt(&self, index: usize, bytes: &mut [u8]) {
        const METADATA: u128 = 0xaac8_0858_8f7e_e042_85d2_e1e9_0434_cfb3;
        const DATA: u128 = 0xa060_9baf_3114_624f_bc68_3311_714a_69ad;
        const RESERVED: u128 = 0x16e3_c9e3_5c0b_b84d_817d_f92d_f002_15ae;
        let last = self.disks[index].sectors - 1;
        let parts = [
            (METADATA, 34, 34 + self.database - 1),
            (RESERVED, 34 + self.database, self.data_start() - 1),
            (DATA, self.data_start(), last - 33),
        ];
        gpt(bytes, self.disks[index].guid, &parts);
    }

    /// Writes the private headers, tables of contents and database of a disk.
    pub fn database(&self, index: usize, bytes: &mut [u8]) {
        let disk = &self.disks[index];
        let start = self.config_start(disk);
        let head = self.head(index);
        let last = start + self.database - 1;
        let mut heads = vec![last - 191, last];
        if self.scheme == Scheme::Mbr {
            heads.push(6);
        }
        for at in heads {
            bytes[at as usize * SECTOR..][..SECTOR].copy_from_slice(&head);
        }
        let contents = contents(self.sequence, self.database - 567);
        for at in [start + 1, start + 2, last - 2, last - 1] {
            bytes[at as usize * SECTOR..][..SECTOR].copy_from_slice(&contents);
        }
        let database = self.records();
        bytes[(start + 17) as usize * SECTOR..][..database.len()].copy_from_slice(&database);
    }

    fn head(&self, index: usize) -> Vec<u8> {
        let disk = &self.disks[index];
        let data_end = match self.scheme {
            Scheme::Mbr => disk.sectors - self.database,
            Scheme::Gpt => disk.sectors - 33,
        };
        let mut head = vec![0; SECTOR];
        head[..8].copy_from_slice(b"PRIVHEAD");
        head[12..16].copy_from_slice(&[0, 2, 0, if self.is_new { 12 } else { 11 }]);
        head[0x18..0x20].copy_from_slice(&self.sequence.to_be_bytes());
        head[0x20..0x28].copy_from_slice(&2047u64.to_be_bytes());
        head[0x28..0x30].copy_from_slice(&1856u64.to_be_bytes());
        head[0x30..0x54].copy_from_slice(guid_text(disk.guid).as_bytes());
        head[0x70..0x94].copy_from_slice(guid_text(0xb057).as_bytes());
        head[0xb0..0xd4].copy_from_slice(guid_text(self.guid).as_bytes());
        head[0xf0..0xf0 + self.name.len()].copy_from_slice(self.name.as_bytes());
        head[0x10f..0x113].copy_from_slice(&512u32.to_be_bytes());
        let numbers = [
            self.data_start(),
            data_end - self.data_start(),
            self.config_start(disk),
            self.database,
            1,
            self.database - 2,
        ];
        for (index, number) in numbers.into_iter().enumerate() {
            head[0x11b + index * 8..][..8].copy_from_slice(&number.to_be_bytes());
        }
        summed(head)
    }

    /// All records, each with its update status in front.
    fn all(&self) -> (Vec<Vec<u8>>, [u32; 4]) {
        let (mut records, mut counts) = (self.more.clone(), [0; 4]);
        for volume in &self.volumes {
            counts[0] += 1;
            records.push(volume_record(volume));
            for (number, component) in volume.components.iter().enumerate() {
                counts[1] += 1;
                records.push(component_record(volume, component, number));
                for (number, extent) in component.extents.iter().enumerate() {
                    counts[2] += 1;
                    let name = format!(
                        "{}-{:02}-{}",
                        self.disks[extent.disk].name,
                        number + 1,
                        extent.id
                    );
                    let disk = self.disks[extent.disk].id;
                    records.push(partition_record(component, extent, &name, disk));
                }
            }
        }
        for disk in &self.disks {
            counts[3] += 1;
            records.push(disk_record(disk, self.is_new));
        }
        records.push(group_record(&self.name, self.guid, self.is_new));
        (records, counts)
    }

    /// The database's header and its blocks. Long records lie in pieces, the last first; blocks that are not used lie between.
    fn records(&self) -> Vec<u8> {
        let (records, counts) = self.all();
        let mut blocks: Vec<Vec<u8>> = Vec::new();
        let mut block = |group: u32, index: usize, count: usize, part: &[u8]| {
            let mut block = b"VBLK".to_vec();
            block.extend((blocks.len() as u32 + 4).to_be_bytes());
            block.extend(group.to_be_bytes());
            block.extend((index as u16).to_be_bytes());
            block.extend((count as u16).to_be_bytes());
            block.extend(part);
            block.resize(128, 0);
            blocks.push(block);
        };
        for (group, record) in (1..).zip(&records) {
            let parts: Vec<&[u8]> = record.chunks(112).collect();
            for (index, part) in parts.iter().enumerate().rev() {
                block(group, index, parts.len(), part);
                if parts.len() > 1 {
                    block(0, 0, 0, &[]);
                }
            }
        }
        let mut header = vec![0; SECTOR];
        header[..4].copy_from_slice(b"VMDB");
        header[4..8].copy_from_slice(&(blocks.len() as u32 + 4).to_be_bytes());
        header[8..12].copy_from_slice(&128u32.to_be_bytes());
        header[12..16].copy_from_slice(&512u32.to_be_bytes());
        header[16..18].copy_from_slice(&self.status.to_be_bytes());
        header[18..22].copy_from_slice(&[0, 4, 0, 10]);
        header[0x16..0x16 + self.name.len()].copy_from_slice(self.name.as_bytes());
        header[0x35..0x59].copy_from_slice(guid_text(self.guid).as_bytes());
        let pending = self.sequence + u64::from(self.status != 1);
        header[0x75..0x7d].copy_from_slice(&self.sequence.to_be_bytes());
        header[0x7d..0x85].copy_from_slice(&pending.to_be_bytes());
        for at in [0x85, 0xa1] {
            for (index, count) in counts.into_iter().enumerate() {
                header[at + index * 4..][..4].copy_from_slice(&u32::to_be_bytes(count));
            }
        }
        [header, blocks.concat()].concat()
    }
}

/// Writes a GPT with partitions: their types as they stand on the disk, their first and their last sectors.
pub fn gpt(bytes: &mut [u8], guid: u128, parts: &[(u128, u64, u64)]) {
    let last = (bytes.len() / SECTOR) as u64 - 1;
    let mut entries = vec![0; 128 * 128];
    for (number, (kind, first, end)) in parts.iter().enumerate() {
        let entry = &mut entries[number * 128..][..128];
        entry[..16].copy_from_slice(&kind.to_be_bytes());
        let id = guid.wrapping_mul(0x1001) + number as u128;
        entry[16..32].copy_from_slice(&id.to_be_bytes());
        entry[32..40].copy_from_slice(&u64::to_le_bytes(*first));
        entry[40..48].copy_from_slice(&u64::to_le_bytes(*end));
    }
    for (own, other, at) in [(1, last, 2), (last, 1, last - 32)] {
        let mut header = [0; 92];
        header[..8].copy_from_slice(b"EFI PART");
        header[8..12].copy_from_slice(&[0, 0, 1, 0]);
        header[12] = 92;
        header[24..32].copy_from_slice(&u64::to_le_bytes(own));
        header[32..40].copy_from_slice(&u64::to_le_bytes(other));
        header[40..48].copy_from_slice(&34u64.to_le_bytes());
        header[48..56].copy_from_slice(&(last - 33).to_le_bytes());
        header[56..72].copy_from_slice(&guid.to_be_bytes());
        header[72..80].copy_from_slice(&u64::to_le_bytes(at));
        header[80..84].copy_from_slice(&128u32.to_le_bytes());
        header[84..88].copy_from_slice(&128u32.to_le_bytes());
        header[88..92].copy_from_slice(&crc32(&entries).to_le_bytes());
        let sum = crc32(&header);
        header[16..20].copy_from_slice(&sum.to_le_bytes());
        bytes[own as usize * SECTOR..][..92].copy_from_slice(&header);
        bytes[at as usize * SECTOR..][..entries.len()].copy_from_slice(&entries);
    }
}

/// A table of contents, with a configuration of so many sectors.
pub fn contents(sequence: u64, sectors: u64) -> Vec<u8> {
    let mut bytes = vec![0; SECTOR];
    bytes[..8].copy_from_slice(b"TOCBLOCK");
    bytes[12..20].copy_from_slice(&sequence.to_be_bytes());
    for (at, name, start, size) in [
        (0x24, "config", 17u64, sectors),
        (0x46, "log", 17 + sectors, 224),
    ] {
        bytes[at..at + name.len()].copy_from_slice(name.as_bytes());
        bytes[at + 10..at + 18].copy_from_slice(&start.to_be_bytes());
        bytes[at + 18..at + 26].copy_from_slice(&size.to_be_bytes());
    }
    summed(bytes)
}

/// Puts in the sum of all other bytes.
pub fn summed(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes[8..12].fill(0);
    let sum: u32 = bytes.iter().map(|byte| u32::from(*byte)).sum();
    bytes[8..12].copy_from_slice(&sum.to_be_bytes());
    bytes
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |sum: u32, byte: &u8| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg())
        })
    };
    !bytes.iter().fold(!0, step)
}
