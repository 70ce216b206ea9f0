//! VDI: what QEMU writes, and differencing disks made of it.

use super::kit::{Dice, check_with_qemu, difference, img, io, open_in, read_all, refusal, sample};
use cairn_base::Kind;
use cairn_base::read_at::read_vec;
use cairn_disk::{Format, FormatHint, Guid, open, open_as, open_chain};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const KIND: usize = 76;
const TABLE: usize = 340;
const BLOCKS: usize = 384;
const ID: usize = 392;
const MODIFIED: usize = 408;
const PARENT: usize = 424;
const PARENT_MODIFIED: usize = 440;
const FREE: [u8; 4] = [0xff; 4];

fn create(folder: &Path, name: &str, options: &[&str], size: u64) -> PathBuf {
    let arguments = ["create", "-q", "-f", "vdi"];
    let size = size.to_string();
    img(folder, &[&arguments[..], options, &[name, &size]].concat());
    folder.join(name)
}

#[test]
fn what_qemu_writes_is_read() {
    let work = tempfile::tempdir().unwrap();
    for size in [512u64, 1 << 20, (1 << 20) + 512, (37 << 20) + 1024] {
        for (options, format) in [
            (&[][..], Format::VdiDynamic),
            (&["-o", "static=on"][..], Format::VdiFixed),
        ] {
            let image = create(work.path(), "a.vdi", options, size);
            let mut dice = Dice(size);
            let mut model = vec![0; size as usize];
            let mut commands = Vec::new();
            for _ in 0..30 {
                let sectors = size / 512;
                let at = dice.below(sectors);
                let length = (1 + dice.below((sectors - at).min(3000))) * 512;
                let (at, byte) = (at * 512, dice.below(256) as u8);
                model[at as usize..(at + length) as usize].fill(byte);
                commands.push(format!("write -P {byte} {at} {length}"));
            }
            io(&image, "vdi", &commands);
            let disk = open(&image).unwrap();
            assert_eq!(disk.format(), format);
            assert!(disk.identity().disk_id.is_some());
            let what = format!("{format} {size}");
            check_with_qemu(&*disk, &image, "vdi", &what);
            let found = read_all(&*disk, &mut dice);
            assert_eq!(difference(&found, &model), None, "{what}");
        }
    }
}

/// A VDI of `content` with the ids of `number`, a child of the one of `parent`; `zeros` are blocks that are zeros, whatever the parent has.
fn made(path: &Path, content: &[u8], number: u8, parent: u8, zeros: &[usize]) {
    let folder = path.parent().unwrap();
    let raw = folder.join("raw");
    fs::write(&raw, content).unwrap();
    let names = [raw.to_str().unwrap(), path.to_str().unwrap()];
    img(
        folder,
        &["convert", "-f", "raw", "-O", "vdi", names[0], names[1]],
    );
    let mut bytes = fs::read(path).unwrap();
    bytes[ID..ID + 16].fill(number);
    bytes[MODIFIED..MODIFIED + 16].fill(number | 0x40);
    if parent != 0 {
        bytes[KIND] = 4;
        bytes[PARENT..PARENT + 16].fill(parent);
        bytes[PARENT_MODIFIED..PARENT_MODIFIED + 16].fill(parent | 0x40);
    }
    let table = u32::from_le_bytes(bytes[TABLE..TABLE + 4].try_into().unwrap()) as usize;
    for block in zeros {
        let at = table + 4 * block;
        assert_eq!(bytes[at..at + 4], FREE, "not a block of nothing");
        bytes[at] = 0xfe;
    }
    fs::write(path, bytes).unwrap();
}

fn id(number: u8) -> Guid {
    Guid([number; 16])
}

#[test]
fn differencing_disks_find_their_parents_by_id() {
    let work = tempfile::tempdir().unwrap();
    let folder = work.path();
    let at = |name: &str| folder.join(name);
    let base = sample(&at("sample"), 6 << 20, 9);
    made(&at("base.vdi"), &base, 1, 0, &[]);
    // The middle one has block 1, block 2 is zeros; the youngest is larger, and has half of block 4 and block 7.
    let mut middle = vec![0; 6 << 20];
    middle[1 << 20..2 << 20].fill(2);
    made(&at("middle.vdi"), &middle, 2, 1, &[2]);
    let mut top = vec![0; (8 << 20) + 512];
    top[(4 << 20)..(4 << 20) + 4096].fill(3);
    top[7 << 20..8 << 20].fill(4);
    made(&at("top.vdi"), &top, 3, 2, &[]);
    let mut model = base.clone();
    model.resize(top.len(), 0);
    model[1 << 20..2 << 20].fill(2);
    model[2 << 20..3 << 20].fill(0);
    model[4 << 20..5 << 20].copy_from_slice(&top[4 << 20..5 << 20]);
    model[7 << 20..8 << 20].fill(4);
    // Whatever their names are, and wherever the caller says.
    fs::create_dir(at("elsewhere")).unwrap();
    fs::rename(at("base.vdi"), at("x.VDI")).unwrap();
    let disk = open(&at("top.vdi")).unwrap();
    assert_eq!(disk.format(), Format::VdiDifferencing);
    assert_eq!(disk.identity().disk_id, Some(id(3)));
    assert_eq!(disk.files().len(), 3);
    let found = read_all(&*disk, &mut Dice(4));
    assert_eq!(difference(&found, &model), None);
    super::shared::check_extents(&*disk);
    assert_eq!(
        open_as(&at("top.vdi"), FormatHint::Vdi).unwrap().size(),
        top.len() as u64
    );
    fs::rename(at("x.VDI"), at("elsewhere/x.vdi")).unwrap();
    let error = refusal(&at("top.vdi"));
    assert_eq!(error.kind(), Kind::NotFound, "{error}");
    assert!(error.to_string().contains(&id(1).to_string()), "{error}");
    open_in(&at("top.vdi"), &[at("elsewhere")]).unwrap();
    open_in(&at("top.vdi"), &[at("elsewhere/x.vdi")]).unwrap();
    // One that was written to since is not it.
    let base = at("elsewhere/x.vdi");
    let mut bytes = fs::read(&base).unwrap();
    bytes[MODIFIED] ^= 1;
    fs::write(&base, &bytes).unwrap();
    let error = open_in(&at("top.vdi"), &[at("elsewhere")]).err().unwrap();
    assert_eq!(error.kind(), Kind::Denied, "{error}");
    assert!(error.to_string().contains("changed since"), "{error}");
    // As bytes.
    bytes[MODIFIED] ^= 1;
    let image =
        |name: &str| -> Arc<dyn cairn_base::ReadAt> { Arc::new(fs::read(at(name)).unwrap()) };
    let parents = vec![
        image("middle.vdi"),
        Arc::new(bytes) as Arc<dyn cairn_base::ReadAt>,
    ];
    let disk = open_chain(image("top.vdi"), parents, FormatHint::Detect).unwrap();
    assert_eq!(difference(&read_all(&*disk, &mut Dice(5)), &model), None);
    let wrong = vec![image("top.vdi")];
    assert!(open_chain(image("top.vdi"), wrong, FormatHint::Detect).is_err());
}

#[test]
fn what_cannot_be_is_refused() {
    let work = tempfile::tempdir().unwrap();
    let image = create(work.path(), "a.vdi", &[], 3 << 20);
    io(&image, "vdi", &["write -P 5 1M 1M".to_string()]);
    let good = fs::read(&image).unwrap();
    let table = u32::from_le_bytes(good[TABLE..TABLE + 4].try_into().unwrap()) as usize;
    let changed = |at: usize, bytes: &[u8]| {
        let mut image = good.clone();
        image[at..at + bytes.len()].copy_from_slice(bytes);
        cairn_disk::open_bytes(Arc::new(image), FormatHint::Detect)
    };
    let disk = changed(0, &[]).unwrap();
    assert_eq!(read_vec(&*disk, 1 << 20, 1).unwrap(), [5]);
    // A block behind the end of the file: the others can be read.
    for entry in [1u32, 0xffff_fffd] {
        let disk = changed(table + 4, &entry.to_le_bytes()).unwrap();
        let error = read_vec(&*disk, 1 << 20, 1).unwrap_err();
        assert_eq!(error.kind(), Kind::Damaged, "{error}");
        assert!(error.to_string().contains("block 1 of the VDI"), "{error}");
        assert_eq!(read_vec(&*disk, 0, 1).unwrap(), [0]);
    }
    // A block over the table.
    let disk = changed(344, &0u32.to_le_bytes()).unwrap();
    assert!(read_vec(&*disk, 1 << 20, 1).is_err());
    // A table that is not all there, and a child of nobody.
    for (at, bytes) in [
        (TABLE, [0xff; 4]),
        (BLOCKS, [2, 0, 0, 0]),
        (KIND, [4, 0, 0, 0]),
    ] {
        let error = changed(at, &bytes).err().unwrap();
        assert_eq!(error.kind(), Kind::Damaged, "{error}");
    }
    // A child of itself.
    let mut circle = good.clone();
    circle[KIND] = 4;
    let own: Vec<u8> = circle[ID..ID + 16].to_vec();
    circle[PARENT..PARENT + 16].copy_from_slice(&own);
    fs::write(&image, circle).unwrap();
    let error = refusal(&image);
    assert!(error.to_string().contains("circle"), "{error}");
}

#[test]
fn zeros_over_the_block_table_are_not_the_first_block() {
    let work = tempfile::tempdir().unwrap();
    let image = work.path().join("a.vdi");
    let mib = 1usize << 20;
    let content: Vec<u8> = (0..8 * mib).map(|at| (at / mib + 1) as u8).collect();
    made(&image, &content, 1, 0, &[]);
    let mut bytes = fs::read(&image).unwrap();
    let table = u32::from_le_bytes(bytes[TABLE..TABLE + 4].try_into().unwrap()) as usize;
    bytes[table + 4 * 3..table + 4 * 6].fill(0);
    fs::write(&image, bytes).unwrap();
    let disk = open(&image).unwrap();
    for (block, byte) in (0..8).zip(1u8..) {
        let read = read_vec(&*disk, (block * mib) as u64, mib);
        match (3..6).contains(&block) {
            true => {
                let error = read.unwrap_err();
                assert_eq!(error.kind(), Kind::Damaged, "{error}");
                assert!(
                    error.to_string().contains(&format!("block {block}")),
                    "{error}"
                );
            }
            false => assert!(read.unwrap() == vec![byte; mib], "{block}"),
        }
    }
    let extents = disk.data_extents(0..u64::MAX).unwrap();
    assert_eq!(extents, [0..8 << 20], "what is lost is no hole");
}
