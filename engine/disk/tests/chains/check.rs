//! What is wrong with an image is named, with its offset; what is not, is not.

use super::journal::{Change, entry, put_log};
use super::logs::{sector_of, spoil};
use super::made::{Image, Kind, Op, Parent};
use cairn_base::read_at::read_vec;
use cairn_base::{Kind as ErrorKind, Monitor, Silent, Stage};
use cairn_disk::vhd::footer::Footer;
use cairn_disk::vhdx::{header, region};
use cairn_disk::{Check, FoundBy, OpenOptions, Property, Severity, Topic, Value, examine};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

const MIB: u64 = 1 << 20;
/// Where `made` puts the block tables.
const VHD_TABLE: u64 = 1536 + 8 * 4096;
const VHDX_TABLE: u64 = 3 * MIB;

fn image(kind: Kind, folder: &Path, number: u16, parent: Option<&Image>) -> Image {
    let name = match kind {
        Kind::Vhd => format!("{number}.vhd"),
        Kind::Vhdx => format!("{number}.vhdx"),
    };
    let image = Image {
        kind,
        path: folder.join(name),
        size: 12 * MIB,
        block_size: 1 << 20,
        sector: 512,
        number,
        parent: parent.map(|parent| Parent::beside(kind, parent.number, &parent.path)),
        ops: [0, 3, 7]
            .map(|block| Op::Data(block * 2048..block * 2048 + 100))
            .to_vec(),
    };
    image.write();
    image
}

/// Faults as (topic, offset, what), and remarks.
type Findings = Vec<(Topic, Option<u64>, String)>;

fn found(path: &Path) -> (Findings, Findings) {
    let before = fs::read(path).unwrap();
    let mut check = Check::new(&Silent);
    examine(path, &OpenOptions::default())
        .unwrap()
        .check(&mut check)
        .unwrap();
    let of = |severity: Severity| {
        let all = check.findings().iter();
        all.filter(|found| found.severity == severity)
            .map(|found| {
                assert_eq!(found.file.as_deref(), Some(path), "{found:?}");
                (found.topic, found.offset, found.what.clone())
            })
            .collect::<Findings>()
    };
    let (faults, remarks) = (of(Severity::Fault), of(Severity::Remark));
    assert_eq!(faults.is_empty(), check.is_sound());
    assert!(fs::read(path).unwrap() == before, "the file was written to");
    (faults, remarks)
}

/// The one fault of the image is of this topic, at this offset, and says this.
#[track_caller]
fn one_fault(path: &Path, topic: Topic, offset: u64, what: &str) {
    let (faults, _) = found(path);
    assert_eq!(faults.len(), 1, "{what}: {faults:?}");
    let (its_topic, its_offset, its_what) = &faults[0];
    assert_eq!(
        (*its_topic, *its_offset),
        (topic, Some(offset)),
        "{its_what}"
    );
    assert!(its_what.contains(what), "{its_what}");
}

fn flip(path: &Path, at: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

fn entry_of(kind: Kind, block: u64) -> u64 {
    match kind {
        Kind::Vhd => VHD_TABLE + block * 4,
        Kind::Vhdx => VHDX_TABLE + block * 8,
    }
}

fn read_entry(path: &Path, kind: Kind, block: u64) -> Vec<u8> {
    let mut bytes = vec![0; if kind == Kind::Vhd { 4 } else { 8 }];
    let file = File::open(path).unwrap();
    file.read_exact_at(&mut bytes, entry_of(kind, block))
        .unwrap();
    bytes
}

#[test]
fn nothing_is_wrong_with_good_images() {
    let temporary = tempfile::tempdir().unwrap();
    for kind in [Kind::Vhd, Kind::Vhdx] {
        let parent = image(kind, temporary.path(), 1, None);
        let child = image(kind, temporary.path(), 2, Some(&parent));
        for image in [&parent, &child] {
            assert_eq!(found(&image.path), (vec![], vec![]), "{:?}", image.path);
        }
    }
}

#[test]
fn blocks_are_named_by_their_entries() {
    for kind in [Kind::Vhd, Kind::Vhdx] {
        let temporary = tempfile::tempdir().unwrap();
        let good = image(kind, temporary.path(), 1, None);
        let put = |block: u64, bytes: &[u8]| {
            good.write();
            spoil(&good.path, entry_of(kind, block), bytes);
        };
        // Two entries that lead to the same block.
        put(5, &read_entry(&good.path, kind, 3));
        one_fault(
            &good.path,
            Topic::Overlap,
            entry_of(kind, 5),
            "block 5 and block 3 share",
        );
        // Behind the end of the file.
        let far: Vec<u8> = match kind {
            Kind::Vhd => 0x00ff_0000u32.to_be_bytes().to_vec(),
            Kind::Vhdx => ((4096 * MIB) | 6).to_le_bytes().to_vec(),
        };
        put(2, &far);
        one_fault(&good.path, Topic::Outside, entry_of(kind, 2), "block 2");
        // Over the headers.
        let zero: Vec<u8> = match kind {
            Kind::Vhd => vec![0; 4],
            Kind::Vhdx => 6u64.to_le_bytes().to_vec(),
        };
        put(4, &zero);
        let headers = match kind {
            Kind::Vhd => "the copy of the footer",
            Kind::Vhdx => "the headers",
        };
        one_fault(&good.path, Topic::Overlap, entry_of(kind, 4), headers);
        // What nothing refers to is no fault.
        let none: Vec<u8> = match kind {
            Kind::Vhd => vec![0xff; 4],
            Kind::Vhdx => vec![0; 8],
        };
        put(7, &none);
        let (faults, remarks) = found(&good.path);
        assert_eq!(faults, []);
        let [(Topic::Unreferenced, None, what)] = remarks.as_slice() else {
            panic!("{remarks:?}");
        };
        // The block, and in a VHD its bitmap and the room for locators that nobody needs.
        let bytes = match kind {
            Kind::Vhd => MIB + 512 + 8 * 4096,
            Kind::Vhdx => MIB,
        };
        assert!(what.starts_with(&format!("{bytes} bytes")), "{what}");
    }
}

#[test]
fn a_vhd_block_over_half_of_another_is_found() {
    let temporary = tempfile::tempdir().unwrap();
    let good = image(Kind::Vhd, temporary.path(), 1, None);
    let place = u32::from_be_bytes(read_entry(&good.path, Kind::Vhd, 3).try_into().unwrap());
    spoil(
        &good.path,
        entry_of(Kind::Vhd, 9),
        &(place - 1000).to_be_bytes(),
    );
    let (faults, _) = found(&good.path);
    let [(Topic::Overlap, Some(at), what)] = faults.as_slice() else {
        panic!("{faults:?}");
    };
    assert_eq!(*at, entry_of(Kind::Vhd, 9), "{what}");
    assert!(what.contains("block 9 and block 0 share"), "{what}");
}

#[test]
fn states_that_do_not_exist_and_bitmaps_that_are_not_there() {
    let temporary = tempfile::tempdir().unwrap();
    let parent = image(Kind::Vhdx, temporary.path(), 1, None);
    let child = image(Kind::Vhdx, temporary.path(), 2, Some(&parent));
    let at = |block: u64| entry_of(Kind::Vhdx, block);
    for state in [4u64, 5] {
        parent.write();
        spoil(&parent.path, at(1), &state.to_le_bytes());
        one_fault(&parent.path, Topic::State, at(1), &format!("state {state}"));
    }
    parent.write();
    flip(&parent.path, at(3) + 1);
    one_fault(&parent.path, Topic::Reserved, at(3), "reserved bits");
    parent.write();
    let partial = read_entry(&parent.path, Kind::Vhdx, 3)[0] | 7;
    spoil(&parent.path, at(3), &[partial]);
    let (faults, _) = found(&parent.path);
    assert_eq!((faults[0].0, faults[0].1), (Topic::State, Some(at(3))));
    assert!(faults[0].2.contains("the disk has none"), "{faults:?}");
    parent.write();
    // The sector bitmap of the only chunk stands behind 4096 blocks.
    spoil(&child.path, at(4096), &[0; 8]);
    one_fault(&child.path, Topic::Bitmap, at(4096), "block 0");
    spoil(&child.path, at(4096), &3u64.to_le_bytes());
    one_fault(
        &child.path,
        Topic::State,
        at(4096),
        "sector bitmap 0 is in state 3",
    );
}

#[test]
fn copies_of_headers_and_tables_are_looked_at_one_by_one() {
    let temporary = tempfile::tempdir().unwrap();
    let good = image(Kind::Vhdx, temporary.path(), 1, None);
    for at in header::OFFSETS.into_iter().chain(region::OFFSETS) {
        good.write();
        flip(&good.path, at + 100);
        one_fault(
            &good.path,
            Topic::Structure,
            at + 4,
            "checksum does not hold",
        );
    }
    // Both headers: the image cannot be opened, and each is named all the same.
    good.write();
    for at in header::OFFSETS {
        flip(&good.path, at + 100);
    }
    let (faults, _) = found(&good.path);
    let offsets: Vec<_> = faults.iter().filter_map(|(_, offset, _)| *offset).collect();
    assert_eq!(offsets[..2], header::OFFSETS.map(|at| at + 4));
    assert!(faults[2].2.contains("cannot be opened"), "{faults:?}");
    // Headers with the same number that say different things.
    good.write();
    let other = header::Header {
        data_write_id: cairn_disk::Guid::NIL,
        ..good.vhdx_header(1)
    };
    spoil(&good.path, header::OFFSETS[1], &other.encode());
    let (faults, _) = found(&good.path);
    assert_eq!(
        (faults[0].0, faults[0].1),
        (Topic::Copies, Some(header::OFFSETS[1]))
    );
    // A region table that is good and says something else.
    good.write();
    let elsewhere = region::Regions {
        metadata: 2 * MIB..3 * MIB,
        bat: 4 * MIB..5 * MIB,
    };
    spoil(&good.path, region::OFFSETS[1], &elsewhere.encode());
    one_fault(
        &good.path,
        Topic::Copies,
        region::OFFSETS[1],
        "different things",
    );
    // Metadata: the table's signature; an item of another length.
    good.write();
    flip(&good.path, 2 * MIB);
    let (faults, _) = found(&good.path);
    assert_eq!(
        (faults[0].0, faults[0].1),
        (Topic::Structure, Some(2 * MIB))
    );
    good.write();
    spoil(&good.path, 2 * MIB + 32 + 20, &9u32.to_le_bytes());
    let (faults, _) = found(&good.path);
    let topics: Vec<Topic> = faults.iter().map(|fault| fault.0).collect();
    assert_eq!(topics, [Topic::Structure, Topic::Overlap], "{faults:?}");
}

#[test]
fn footers_headers_and_locators_of_vhd() {
    let temporary = tempfile::tempdir().unwrap();
    let parent = image(Kind::Vhd, temporary.path(), 1, None);
    let child = image(Kind::Vhd, temporary.path(), 2, Some(&parent));
    let end = fs::metadata(&parent.path).unwrap().len() - 512;
    for at in [0, end] {
        parent.write();
        flip(&parent.path, at + 200);
        let (faults, _) = found(&parent.path);
        let found: Vec<_> = faults.iter().map(|fault| (fault.0, fault.1)).collect();
        let expected = [
            (Topic::Structure, Some(at + 64)),
            (Topic::Copies, Some(200)),
        ];
        assert_eq!(found, expected, "{faults:?}");
    }
    // A good copy that says something else.
    parent.write();
    let mut copy = [0; 512];
    File::open(&parent.path)
        .unwrap()
        .read_exact_at(&mut copy, 0)
        .unwrap();
    let mut footer = Footer::parse(&copy, 0).unwrap();
    footer.timestamp += 1;
    spoil(&parent.path, 0, &footer.encode());
    one_fault(&parent.path, Topic::Copies, 27, "differ");
    // No footer at the end.
    parent.write();
    spoil(&parent.path, end, &[0; 512]);
    one_fault(
        &parent.path,
        Topic::Structure,
        end,
        "no VHD footer at the end",
    );
    // A locator of the parent behind the end of the file.
    parent.write();
    let mut header = vec![0; 1024];
    File::open(&child.path)
        .unwrap()
        .read_exact_at(&mut header, 512)
        .unwrap();
    header[576 + 16..576 + 24].copy_from_slice(&(1u64 << 40).to_be_bytes());
    header[36..40].fill(0);
    let sum = header
        .iter()
        .fold(0u32, |sum, byte| sum.wrapping_add(u32::from(*byte)));
    header[36..40].copy_from_slice(&(!sum).to_be_bytes());
    spoil(&child.path, 512, &header);
    one_fault(&child.path, Topic::Outside, 512 + 576, "parent locator");
}

#[test]
fn the_dynamic_header_of_vhd() {
    let temporary = tempfile::tempdir().unwrap();
    let parent = image(Kind::Vhd, temporary.path(), 1, None);
    let end = fs::metadata(&parent.path).unwrap().len() - 512;
    flip(&parent.path, 512 + 40);
    one_fault(&parent.path, Topic::Structure, 512 + 36, "cannot be opened");
    // With both footers, as by a program that has sums of its own: it is read, and each is told.
    for at in [0, end] {
        flip(&parent.path, at + 200);
    }
    let (faults, _) = found(&parent.path);
    let places: Vec<_> = faults.iter().map(|fault| (fault.0, fault.1)).collect();
    let expected = [64, end + 64, 512 + 36].map(|at| (Topic::Structure, Some(at)));
    assert_eq!(places, expected, "{faults:?}");
    let disk = cairn_disk::open(&parent.path).unwrap();
    assert_eq!(disk.warnings().len(), 2, "{:?}", disk.warnings());
    let read = read_vec(&*disk, 0, 1 << 20).unwrap();
    drop(disk);
    parent.write();
    let sound = cairn_disk::open(&parent.path).unwrap();
    assert_eq!(read, read_vec(&*sound, 0, 1 << 20).unwrap());
}

#[test]
fn what_is_more_than_anybody_reads_is_counted() {
    let temporary = tempfile::tempdir().unwrap();
    let mut wide = image(Kind::Vhdx, temporary.path(), 1, None);
    wide.size = 3000 * MIB;
    wide.write();
    let bad: Vec<u8> = (0..2900u64).flat_map(|_| 5u64.to_le_bytes()).collect();
    spoil(&wide.path, entry_of(Kind::Vhdx, 100), &bad);
    let mut check = Check::new(&Silent);
    let examined = examine(&wide.path, &OpenOptions::default()).unwrap();
    examined.check(&mut check).unwrap();
    assert_eq!(check.findings().len(), 16);
    assert_eq!(check.counts()[0].found, 2900);
}

/// Wants to stop after so many steps.
struct Stops(AtomicU64);

impl Monitor for Stops {
    fn advance(&self, _stage: Stage, _amount: u64) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
    fn stop_requested(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}

#[test]
fn a_long_walk_can_be_stopped() {
    let temporary = tempfile::tempdir().unwrap();
    for kind in [Kind::Vhd, Kind::Vhdx] {
        let image = image(kind, temporary.path(), 1, None);
        let examined = examine(&image.path, &OpenOptions::default()).unwrap();
        for steps in 1..3 {
            let stops = Stops(AtomicU64::new(steps));
            let error = examined.check(&mut Check::new(&stops)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Interrupted, "{kind:?} {steps}");
        }
    }
}

fn property<'a>(properties: &'a [Property], name: &str) -> Option<&'a Value> {
    let mut all = properties.iter();
    Some(&all.find(|property| property.name == name)?.value)
}

#[test]
fn a_log_that_is_replayed_is_told_and_what_it_mends_is_no_fault() {
    let temporary = tempfile::tempdir().unwrap();
    let image = image(Kind::Vhdx, temporary.path(), 1, None);
    let size = fs::metadata(&image.path).unwrap().len();
    let table = Change::Data(VHDX_TABLE, sector_of(&image.path, VHDX_TABLE));
    spoil(&image.path, entry_of(Kind::Vhdx, 1), &5u64.to_le_bytes());
    one_fault(
        &image.path,
        Topic::State,
        entry_of(Kind::Vhdx, 1),
        "state 5",
    );
    put_log(&image, 0, &[entry(3, 0, size, &[table])]);
    assert_eq!(found(&image.path), (vec![], vec![]));
    let examined = examine(&image.path, &OpenOptions::default()).unwrap();
    let images = examined.images();
    let said = |name| property(&images[0].properties, name);
    let dirty = Value::Text("dirty: replayed in memory".to_string());
    assert_eq!(said("log"), Some(&dirty));
    assert_eq!(said("log_entries"), Some(&Value::Number(1)));
    assert_eq!(said("log_changes"), Some(&Value::Number(1)));
    assert_eq!(said("physical_sector_bytes"), Some(&Value::Bytes(4096)));
}

#[test]
fn what_is_there_of_a_chain_is_shown_and_checked() {
    for kind in [Kind::Vhd, Kind::Vhdx] {
        let temporary = tempfile::tempdir().unwrap();
        let parent = image(kind, temporary.path(), 1, None);
        let child = image(kind, temporary.path(), 2, Some(&parent));
        let examined = examine(&child.path, &OpenOptions::default()).unwrap();
        let images = examined.images();
        assert!(examined.failure().is_none());
        let found_by: Vec<FoundBy> = images.iter().map(|image| image.found).collect();
        assert_eq!(found_by, [FoundBy::Caller, FoundBy::Path]);
        let id = examined.images()[1].identity;
        let id = match kind {
            Kind::Vhd => id.disk_id,
            Kind::Vhdx => id.data_id,
        };
        assert_eq!(
            property(&images[0].properties, "parent_id"),
            id.map(Value::Id).as_ref()
        );
        // Under another name it is known by its id.
        let renamed = temporary.path().join(match kind {
            Kind::Vhd => "other.vhd",
            Kind::Vhdx => "other.vhdx",
        });
        fs::rename(&parent.path, &renamed).unwrap();
        let examined = examine(&child.path, &OpenOptions::default()).unwrap();
        assert_eq!(examined.images()[1].found, FoundBy::Id);
        assert_eq!(examined.images()[1].files[0].path, renamed);

        fs::remove_file(&renamed).unwrap();
        let examined = examine(&child.path, &OpenOptions::default()).unwrap();
        assert_eq!(examined.failure().unwrap().kind(), ErrorKind::NotFound);
        assert_eq!(examined.images().len(), 1);
        let disk = examined.disk().unwrap();
        // What the child has is read; what it has not is no zeros.
        let mut bytes = [0; 512];
        disk.read_exact_at(99 * 512, &mut bytes).unwrap();
        assert_eq!(bytes[7], super::made::byte(2, 99 * 512 + 7));
        let error = disk.read_exact_at(100 * 512, &mut bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let extents = disk.data_extents(0..u64::MAX).unwrap();
        assert_eq!((extents.len(), &extents[0]), (1, &(0..12 * MIB)));
        let (faults, remarks) = found(&child.path);
        assert_eq!(faults, []);
        assert_eq!(remarks[0].0, Topic::Parent);
    }
}
