//! What the tests of dynamic disks share.

use super::maker::{Group, SECTOR, Scheme};
use cairn_base::{Error, ReadAt, Result};
use cairn_guest::PartitionTable;
use cairn_guest::ldm::{self, Assembled, Database, DynamicVolume, Member, Unread};
use cairn_guest::probe::{DynamicDisk, database};
use std::ops::Range;
use std::process::Command;
use std::sync::Arc;

/// Whether all `tools` can be run; says so if not.
pub fn have(tools: &[&str]) -> bool {
    for tool in tools {
        let find = format!("command -v {tool}");
        let found = Command::new("sh").args(["-c", &find]).output();
        if !found.is_ok_and(|output| output.status.success()) {
            println!("SKIPPED: the tool `{tool}` is not installed");
            return false;
        }
    }
    true
}

/// Bytes that are never the same at two places.
pub fn noise(seed: u64, sectors: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let words = (0..sectors as usize * SECTOR / 8).flat_map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.collect()
}

/// One volume of each kind, with chunks of 64 KiB.
pub fn every_kind(scheme: Scheme, is_new: bool) -> Group {
    let mut group = Group::new(scheme, is_new, 3);
    group.add("Volume1", 2, 0, &[(0, 4000)]).hint = "D:".to_string();
    group.add("Extended1", 2, 0, &[(1, 1000), (1, 3000)]);
    group.add("Spanned1", 2, 0, &[(0, 1500), (2, 2500), (0, 100)]);
    group.add("Stripe1", 1, 128, &[(0, 1280), (1, 1280), (2, 1280)]);
    group.mirror("Mirror1", 3000, &[1, 2]);
    group.add("Raid1", 3, 128, &[(2, 1280), (0, 1280), (1, 1280)]);
    group
}

/// Noise for each volume.
pub fn contents(group: &Group) -> Vec<Vec<u8>> {
    let volumes = (1u64..).zip(&group.volumes);
    volumes
        .map(|(seed, volume)| noise(seed, volume.size))
        .collect()
}

/// The disks of a group with noise in its volumes, and the noise.
pub fn filled(group: &Group) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let contents = contents(group);
    let parts: Vec<&[u8]> = contents.iter().map(Vec::as_slice).collect();
    (group.write(&parts), contents)
}

pub fn shared(disks: Vec<Vec<u8>>) -> Vec<Arc<dyn ReadAt>> {
    let share = |disk| -> Arc<dyn ReadAt> { Arc::new(disk) };
    disks.into_iter().map(share).collect()
}

pub fn read(disk: &Arc<dyn ReadAt>) -> Result<Option<Database>> {
    ldm::read(disk, &PartitionTable::read(disk, None).unwrap())
}

/// The volumes of these disks.
pub fn assembled(disks: &[Arc<dyn ReadAt>]) -> Vec<DynamicVolume> {
    assembled_beside(disks, &[]).volumes
}

/// The volumes of these disks beside others whose databases cannot be read, and what is wrong.
pub fn assembled_beside(disks: &[Arc<dyn ReadAt>], unread: &[Unread]) -> Assembled {
    let databases: Vec<Database> = disks
        .iter()
        .map(|disk| read(disk).unwrap().expect("not a dynamic disk"))
        .collect();
    let names: Vec<String> = (0..disks.len())
        .map(|number| format!("disk{number}"))
        .collect();
    let members = disks.iter().zip(&databases).zip(&names);
    let members: Vec<Member<'_>> = members
        .map(|((disk, database), name)| Member {
            name,
            disk,
            database,
        })
        .collect();
    ldm::assemble(&members, unread)
}

pub fn volume<'a>(volumes: &'a [DynamicVolume], name: &str) -> &'a DynamicVolume {
    let found = volumes.iter().find(|volume| volume.name == name);
    found.unwrap_or_else(|| panic!("no volume {name}: {volumes:?}"))
}

/// All bytes of a volume.
#[track_caller]
pub fn bytes(volume: &DynamicVolume) -> Vec<u8> {
    let device = volume.device.as_ref().unwrap();
    cairn_base::read_at::read_vec(&**device, 0, device.size() as usize).unwrap()
}

#[track_caller]
pub fn failure(volume: &DynamicVolume) -> Error {
    match &volume.device {
        Ok(_) => panic!("{} can be read", volume.name),
        Err(error) => error.clone(),
    }
}

pub fn notes(volume: &DynamicVolume) -> String {
    let notes: Vec<&str> = volume.notes.iter().map(|note| note.text.as_str()).collect();
    notes.join("\n")
}

/// The disks as the façade has them.
pub fn dynamic_disks(disks: &[Arc<dyn ReadAt>]) -> Vec<DynamicDisk> {
    let of = |(number, disk): (usize, &Arc<dyn ReadAt>)| DynamicDisk {
        name: format!("disk{number}"),
        disk: disk.clone(),
        database: database(disk, None).unwrap().unwrap(),
    };
    disks.iter().enumerate().map(of).collect()
}

/// A disk that cannot read a range.
pub struct Broken {
    pub disk: Arc<dyn ReadAt>,
    pub range: Range<u64>,
}

impl ReadAt for Broken {
    fn size(&self) -> u64 {
        self.disk.size()
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let end = offset + buffer.len() as u64;
        if offset < self.range.end && self.range.start < end {
            return Err(Error::damaged("a bad sector").at_offset(self.range.start));
        }
        self.disk.read_exact_at(offset, buffer)
    }
}

/// A disk that knows where its zeros are, in pieces of 4 KiB.
pub struct Sparse(pub Vec<u8>);

impl ReadAt for Sparse {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.0.read_exact_at(offset, buffer)
    }

    fn data_extents(&self, range: Range<u64>) -> Result<Vec<Range<u64>>> {
        let pieces = (0u64..).zip(self.0.chunks(4096));
        let data = pieces.filter(|(_, piece)| piece.iter().any(|byte| *byte != 0));
        let data = data.map(|(number, _)| {
            (number * 4096).max(range.start)..((number + 1) * 4096).min(range.end)
        });
        Ok(cairn_base::read_at::joined(data.collect()))
    }
}
