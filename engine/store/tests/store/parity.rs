//! Packs with parity: what is damaged within it is read right, and said; what is damaged beyond it is never read wrong.

use crate::kit::{Kit, R, TestDisk, files_in, mixed, noise};
use cairn_base::{Kind, Silent};
use cairn_store::pack::head::{HEAD_LEN, PackKind};
use cairn_store::pack::{Footer, PackReader};
use cairn_store::verify;
use std::path::{Path, PathBuf};

/// Numbers that follow from a seed, which is printed.
pub struct Random(blake3::OutputReader);

impl Random {
    pub fn new(seed: u64) -> Random {
        println!("seed {seed}");
        let mut hasher = blake3::Hasher::new();
        Random(hasher.update(&seed.to_le_bytes()).finalize_xof())
    }

    pub fn below(&mut self, end: usize) -> usize {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        (u64::from_le_bytes(bytes) % end as u64) as usize
    }
}

/// The seed of this run: `PARITY_SEED`, or what is given.
pub fn seed(otherwise: u64) -> u64 {
    let told = std::env::var("PARITY_SEED").ok();
    told.and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// The footer of a pack's file.
pub fn footer(path: &Path) -> Footer {
    let bytes = std::fs::read(path).unwrap();
    Footer::decode(&bytes[bytes.len() - 128..], bytes.len() as u64).unwrap()
}

/// All packs of the store.
pub fn packs(kit: &Kit) -> Vec<PathBuf> {
    let names = files_in(kit.path(), "packs");
    names.iter().map(|name| kit.path().join(name)).collect()
}

/// Damages sectors of a pack: of each stripe as many as `share` of its parity (1.0: all that can be repaired), anywhere.
pub fn damage(path: &Path, share: f64, random: &mut Random) -> usize {
    let footer = footer(path);
    let shape = footer.shape().unwrap().unwrap();
    let mut bytes = std::fs::read(path).unwrap();
    let mut count = 0;
    for stripe in 0..shape.stripes() {
        let (data, parity) = (shape.data_of(stripe), shape.parity_of(stripe));
        let wanted = ((parity as f64 * share).ceil() as usize).min(data);
        let mut chosen = Vec::new();
        while chosen.len() < wanted {
            let number = random.below(data);
            if !chosen.contains(&number) {
                chosen.push(number);
            }
        }
        for number in chosen {
            let range = shape.data_range(stripe, number);
            let sector = &mut bytes[range.start as usize..range.end as usize];
            if random.below(2) == 0 {
                sector.fill(0x55);
            } else {
                let at = random.below(sector.len());
                sector[at] ^= 1 << random.below(8);
            }
            count += 1;
        }
    }
    std::fs::write(path, bytes).unwrap();
    count
}

#[test]
fn damage_within_the_parity_is_read_right_and_said() {
    for (number, parity) in [1, 3, 25].into_iter().enumerate() {
        let mut random = Random::new(seed(100) + number as u64);
        let kit = Kit::with_parity(parity);
        let bytes = [mixed(3 * R, 1), noise(2 * R, 2)].concat();
        let point = kit.backup("m", TestDisk::new(bytes.clone()));
        let mut sectors = 0;
        for pack in packs(&kit) {
            sectors += damage(&pack, 1.0, &mut random);
        }
        assert!(sectors >= 5, "{sectors}");
        assert!(kit.read(&point).unwrap() == bytes);
        let store = kit.reopen();
        let disk = crate::kit::open_disk(&store, &point, "disk0");
        assert!(cairn_base::read_at::read_vec(&disk, 0, bytes.len()).unwrap() == bytes);
        let told = store.healed();
        assert_eq!(told.len(), packs(&kit).len(), "{told:?}");
        assert!(told[0].contains("--repair"), "{told:?}");
        // A backup stores anew what it sees, and needs no parity for it then.
        let again = kit.backup("m", TestDisk::new(bytes.clone()));
        assert!(kit.read(&again).unwrap() == bytes);
    }
}

#[test]
fn damage_beyond_the_parity_is_an_error_and_no_wrong_byte() {
    let mut random = Random::new(seed(200));
    let kit = Kit::with_parity(1);
    let bytes = noise(5 * R, 3);
    let point = kit.backup("m", TestDisk::new(bytes.clone()));
    for pack in packs(&kit) {
        if footer(&pack).kind == PackKind::Data {
            damage(&pack, 2.0, &mut random);
        }
    }
    assert_eq!(kit.read(&point).unwrap_err().kind(), Kind::Damaged);
    let disk = crate::kit::open_disk(&kit.reopen(), &point, "disk0");
    let mut read = 0;
    for at in (0..bytes.len()).step_by(50_000) {
        let length = 50_000.min(bytes.len() - at);
        if let Ok(found) = cairn_base::read_at::read_vec(&disk, at as u64, length) {
            assert!(found == bytes[at..at + length]);
            read += 1;
        }
    }
    assert!(read > 0);
}

#[test]
fn any_single_sector_of_a_small_pack_may_be_lost() {
    let kit = Kit::with_parity(3);
    let bytes = noise(300_000, 4);
    let point = kit.backup("m", TestDisk::new(bytes.clone()));
    for path in packs(&kit) {
        let whole = std::fs::read(&path).unwrap();
        let id = footer(&path).pack;
        for at in (0..whole.len()).step_by(4096) {
            let mut hurt = whole.clone();
            let end = hurt.len().min(at + 4096);
            hurt[at..end].fill(0);
            std::fs::write(&path, hurt).unwrap();
            let store = kit.reopen();
            let (pack, _) =
                PackReader::open_healed(&**store.folder(), store.header().store, id).unwrap();
            let mut stored = Vec::new();
            for (frame, _) in pack.frames() {
                assert!(pack.stored(store.keys(), frame, &mut stored).unwrap());
            }
            assert!(kit.read(&point).unwrap() == bytes);
        }
        std::fs::write(&path, whole).unwrap();
    }
}

#[test]
fn header_table_and_footer_are_protected_too() {
    let kit = Kit::with_parity(3);
    kit.backup("m", TestDisk::new(noise(2 * R, 5)));
    for path in packs(&kit) {
        let whole = std::fs::read(&path).unwrap();
        let footer = footer(&path);
        let (toc, end) = (footer.toc_offset as usize, whole.len());
        for lost in [
            0..HEAD_LEN,
            toc..footer.parity_offset as usize,
            end - 128..end,
        ] {
            let mut hurt = whole.clone();
            hurt[lost.clone()].fill(0xee);
            std::fs::write(&path, &hurt).unwrap();
            let store = kit.reopen();
            let (folder, of) = (&**store.folder(), store.header().store);
            assert!(PackReader::open(folder, of, footer.pack).is_err());
            let (pack, _) = PackReader::open_healed(folder, of, footer.pack).unwrap();
            assert_eq!(*pack.footer(), footer);
        }
        std::fs::write(&path, whole).unwrap();
    }
}

#[test]
fn a_store_without_parity_is_as_it_was() {
    let kit = Kit::new();
    kit.backup("m", TestDisk::new(noise(R, 6)));
    for path in packs(&kit) {
        let footer = footer(&path);
        assert_eq!((footer.percent, footer.parity_length), (0, 0));
        assert_eq!(footer.parity_offset + 128, footer.length);
    }
    assert_eq!(Kit::with_parity(3).reopen().header().parity, 3);
}

#[test]
fn what_parity_restores_is_damaged_but_not_lost_for_a_quick_verification() {
    let kit = Kit::with_parity(25);
    let bytes = noise(3 * R, 9);
    let point = kit.backup("m", TestDisk::new(bytes.clone()));
    let mut random = Random::new(seed(300));
    for pack in packs(&kit) {
        damage(&pack, 0.5, &mut random);
    }
    // A reader lists what it could only read through parity.
    let store = kit.reopen();
    let disk = crate::kit::open_disk(&store, &point, "disk0");
    assert!(cairn_base::read_at::read_vec(&disk, 0, bytes.len()).unwrap() == bytes);
    store.keep_damage().unwrap();
    assert!(!kit.reopen().known_damage().is_empty());
    let report = verify(&kit.reopen(), true, &Silent).unwrap();
    assert!(report.damaged.is_empty(), "{:?}", report.damaged);
    let told = |problem: &String| problem.contains("--repair");
    assert!(report.problems.iter().any(told), "{:?}", report.problems);
}
