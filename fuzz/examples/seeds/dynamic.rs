//! Seeds of dynamic disks.

use crate::Seeds;
use crate::maker::{Group, Scheme};
use cairn_fuzz::pieces::Pieces;

pub fn write(seeds: &Seeds) {
    for (name, scheme, is_new) in [("mbr", Scheme::Mbr, false), ("gpt", Scheme::Gpt, true)] {
        let mut group = Group::new(scheme, is_new, 2);
        for disk in &mut group.disks {
            disk.sectors = 5 << 11;
        }
        group.add("Volume1", 2, 0, &[(0, 300), (0, 40)]).hint = "D:".to_string();
        group.add("Spanned1", 2, 0, &[(0, 200), (1, 100)]);
        group.add("Stripe1", 1, 16, &[(0, 160), (1, 160)]);
        group.mirror("Mirror1", 200, &[1, 0]);
        group.add("Raid1", 3, 16, &[(0, 160), (1, 160), (1, 160)]);
        let long =
            "a name that is too long for one block of the database, and then some more of it";
        group.add(long, 2, 0, &[(1, 100)]);
        let contents = group.volumes.iter().enumerate();
        let contents =
            contents.map(|(number, volume)| vec![number as u8; volume.size as usize * 512]);
        let contents: Vec<Vec<u8>> = contents.collect();
        let parts: Vec<&[u8]> = contents.iter().map(Vec::as_slice).collect();
        let disks = group.write(&parts);
        let [first, second] = [&disks[0], &disks[1]].map(|disk| Pieces::write(disk));
        // The share of the first must come out exactly.
        let length = first.len().max(second.len()) + 1024;
        let [first, second] = [first, second].map(|pieces| padded(pieces, length));
        for (flags, suffix) in [(0, ""), (1, "_mended")] {
            let seed = [&[128, flags][..], &first, &second].concat();
            seeds.put("ldm", &format!("{name}{suffix}"), &seed);
        }
    }
}

/// The pieces of a disk, and one more that says nothing, so that there are so many bytes.
fn padded(mut pieces: Vec<u8>, length: usize) -> Vec<u8> {
    // A literal far behind everything.
    let rest = length - pieces.len() - 9;
    pieces.push(0);
    pieces.extend([0xff; 5]);
    pieces.extend(&(rest as u64).to_le_bytes()[..3]);
    pieces.resize(length, 0);
    pieces
}
