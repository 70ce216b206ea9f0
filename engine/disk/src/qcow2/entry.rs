//! Entries of L2 tables ("Cluster mapping", "Extended L2 Entries"): where a cluster of the guest is.

use super::header::{Header, incompatible};

/// Bits 9 to 55: an offset in the file.
pub const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
pub(super) const COMPRESSED: u64 = 1 << 62;
pub(super) const COPIED: u64 = 1 << 63;
const ZEROS: u64 = 1;

/// Parts of a cluster of which an extended entry has bits.
pub const SUBCLUSTERS: u32 = 32;
/// The lower half of their bitmap: those that lie in the file. The upper half: those that are zeros.
const ALLOCATED: u64 = 0xffff_ffff;

/// What an entry says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cluster {
    /// Not here: in the backing file, or zeros.
    Absent,
    /// Zeros.
    Zeros,
    /// At this offset of the file that holds the guest's clusters.
    Standard(u64),
    /// Compressed, in so many bytes from this offset on, at most.
    Compressed(u64, u64),
    /// Each of its 32 parts as the bitmap says; what lies in the file does so from this offset of the cluster on.
    Parts(u64, u64),
    /// Something that no entry can say, and what.
    Wrong(&'static str),
}

/// A part of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Not here.
    Absent,
    /// Zeros.
    Zeros,
    /// In the file.
    Here,
}

impl Cluster {
    /// What `entry` says in an image with `header`; `bitmap` is the second half of an extended entry, or 0.
    pub fn parse(entry: u64, bitmap: u64, header: &Header) -> Cluster {
        if entry & COMPRESSED != 0 {
            return match header.has(incompatible::DATA_FILE) {
                true => Cluster::Wrong("is compressed, with an external data file"),
                false => compressed(entry, header.cluster_bits),
            };
        }
        let offset = entry & OFFSET;
        // The first cluster of an external data file lies at 0.
        let at_start = header.has(incompatible::DATA_FILE) && entry & COPIED != 0;
        let has_place = offset != 0 || at_start;
        if !offset.is_multiple_of(header.cluster_size()) {
            return Cluster::Wrong("lies at no multiple of the cluster size");
        }
        if header.has(incompatible::EXTENDED_L2) {
            return extended(offset, has_place, bitmap);
        }
        match (entry & ZEROS != 0, has_place) {
            (true, _) if header.version == 2 => {
                Cluster::Wrong("is zeros, which version 2 does not know")
            }
            (true, _) => Cluster::Zeros,
            (false, true) => Cluster::Standard(offset),
            (false, false) => Cluster::Absent,
        }
    }
}

/// "Compressed Clusters Descriptor": whole sectors, the first of which may belong to another cluster in part.
fn compressed(entry: u64, cluster_bits: u32) -> Cluster {
    // 2 MiB are 2^21 bytes, 512 are 2^9: 49 to 61.
    let x = 70u32.saturating_sub(cluster_bits);
    let offset = entry & (1u64 << x).saturating_sub(1);
    let sectors = (entry & COMPRESSED.saturating_sub(1)) >> x;
    let bytes = sectors.saturating_add(1).saturating_mul(512);
    Cluster::Compressed(offset, bytes.saturating_sub(offset % 512))
}

fn extended(offset: u64, has_place: bool, bitmap: u64) -> Cluster {
    let (allocated, zeros) = (bitmap & ALLOCATED, bitmap >> 32);
    if allocated & zeros != 0 {
        return Cluster::Wrong("has parts that are said to be both zeros and there");
    }
    if allocated != 0 && !has_place {
        return Cluster::Wrong("has parts that are said to be there, and no place");
    }
    match (allocated, zeros) {
        (0, 0) => Cluster::Absent,
        (ALLOCATED, _) => Cluster::Standard(offset),
        (_, ALLOCATED) => Cluster::Zeros,
        _ => Cluster::Parts(offset, bitmap),
    }
}

/// What the bitmap of [`Cluster::Parts`] says of part `number`, counted from 0 to 31.
pub fn part(bitmap: u64, number: u32) -> Part {
    let is_set = |bit: u32| bitmap.checked_shr(bit).unwrap_or(0) & 1 != 0;
    match (is_set(number), is_set(number.saturating_add(SUBCLUSTERS))) {
        (true, _) => Part::Here,
        (false, true) => Part::Zeros,
        (false, false) => Part::Absent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::qcow2::header::Compression;

    fn header(version: u32, cluster_bits: u32, incompatible: u64) -> Header {
        Header {
            version,
            cluster_bits,
            disk_size: 512,
            l1_offset: 512,
            l1_entries: 1,
            incompatible,
            autoclear: 0,
            length: 104,
            compression: Compression::Zlib,
            backing: None,
        }
    }

    #[test]
    fn standard_entries() {
        let (old, new) = (header(2, 16, 0), header(3, 16, 0));
        let data_file = header(3, 16, incompatible::DATA_FILE);
        for (header, entry, cluster) in [
            (&new, 0, Cluster::Absent),
            (&new, COPIED, Cluster::Absent),
            (&data_file, COPIED, Cluster::Standard(0)),
            (&data_file, 0, Cluster::Absent),
            (&new, COPIED | 5 << 16, Cluster::Standard(5 << 16)),
            // Bits that are reserved are not looked at.
            (&new, 3 << 56 | 5 << 16 | 0x1fe, Cluster::Standard(5 << 16)),
            (&new, ZEROS, Cluster::Zeros),
            (&new, ZEROS | 5 << 16, Cluster::Zeros),
        ] {
            assert_eq!(Cluster::parse(entry, 0, header), cluster, "{entry:#x}");
        }
        for (header, entry) in [(&old, ZEROS), (&new, 512), (&data_file, COMPRESSED)] {
            let cluster = Cluster::parse(entry, 0, header);
            assert!(matches!(cluster, Cluster::Wrong(_)), "{cluster:?}");
        }
    }

    #[test]
    fn compressed_entries() {
        for (bits, entry, cluster) in [
            // 2^16: x is 54.
            (
                16,
                1 << 54 | 1000,
                Cluster::Compressed(1000, 1024 - 1000 % 512),
            ),
            (16, 1024, Cluster::Compressed(1024, 512)),
            (
                16,
                COMPRESSED - 1,
                Cluster::Compressed((1 << 54) - 1, 256 * 512 - 511),
            ),
            (9, 1 << 61 | 1, Cluster::Compressed(1, 1023)),
            (21, (8191 << 49) | 512, Cluster::Compressed(512, 8192 * 512)),
        ] {
            let header = header(2, bits, 0);
            assert_eq!(Cluster::parse(COMPRESSED | entry, 0, &header), cluster);
        }
    }

    #[test]
    fn parts_of_clusters() {
        let header = header(3, 16, incompatible::EXTENDED_L2);
        let parse = |entry, bitmap| Cluster::parse(entry, bitmap, &header);
        assert_eq!(parse(5 << 16, 0), Cluster::Absent);
        assert_eq!(parse(5 << 16, ALLOCATED), Cluster::Standard(5 << 16));
        assert_eq!(parse(0, ALLOCATED << 32), Cluster::Zeros);
        let bitmap = 1 | 2 << 32 | 1 << 63;
        assert_eq!(parse(5 << 16, bitmap), Cluster::Parts(5 << 16, bitmap));
        let parts = [0, 1, 2, 31].map(|number| part(bitmap, number));
        assert_eq!(parts, [Part::Here, Part::Zeros, Part::Absent, Part::Zeros]);
        for (entry, bitmap) in [(0, 1), (5 << 16, 1 | 1 << 32)] {
            assert!(matches!(parse(entry, bitmap), Cluster::Wrong(_)));
        }
        // The bitmap of a compressed cluster says nothing.
        assert_eq!(
            parse(COMPRESSED | 512, 1 | 1 << 32),
            Cluster::Compressed(512, 512)
        );
    }
}
