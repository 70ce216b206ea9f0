//! Forms that QEMU reads and does not write, and descriptors in all their spellings.

use super::made::{GRAIN, all, descriptor, esx, ours, qemu_sees, sample, stream, write};
use cairn_base::read_at::read_vec;
use cairn_disk::{Format, FormatHint, Guid, open, open_as};
use std::fs;

#[test]
fn a_stream_with_its_directory_at_the_end() {
    let work = tempfile::tempdir().unwrap();
    // The last grain is cut off; and two tables.
    for size in [GRAIN / 2, 5 * GRAIN + 512 * 3, 513 * GRAIN + 512] {
        let content = sample(size, size as u64);
        let (bytes, _) = stream(&content);
        let image = write(work.path(), "stream.vmdk", &bytes);
        let disk = open(&image).unwrap();
        assert_eq!(disk.format(), Format::VmdkStreamOptimized);
        assert_eq!(disk.warnings(), [] as [String; 0]);
        assert!(all(&*disk).unwrap() == content, "{size}");
        assert!(qemu_sees(&image) == content, "{size}");
        super::shared::check_extents(&*disk);
        disk.will_need(0..u64::MAX);
        // In pieces that begin and end anywhere.
        let mut at = 0;
        while at < size {
            let length = 40_001.min(size - at);
            assert!(read_vec(&*disk, at as u64, length).unwrap() == content[at..at + length]);
            at += length;
        }
    }
}

#[test]
fn many_threads_read_a_stream() {
    let content = sample(40 * GRAIN, 7);
    let (bytes, _) = stream(&content);
    let disk = cairn_disk::open_bytes(std::sync::Arc::new(bytes), Default::default()).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let (disk, content) = (&disk, &content);
            scope.spawn(move || {
                let mut dice = super::made::Dice(thread + 1);
                for _ in 0..200 {
                    let at = dice.below(content.len() as u64) as usize;
                    let length = (dice.below(100_000) as usize).min(content.len() - at);
                    let found = read_vec(&**disk, at as u64, length).unwrap();
                    assert!(found == content[at..at + length]);
                }
            });
        }
    });
}

#[test]
fn sparse_extents_of_esx() {
    let work = tempfile::tempdir().unwrap();
    let folder = work.path();
    for (size, grain) in [(3 << 20, 1), (9 << 20, 1), (5 << 20, 128)] {
        let size: usize = size;
        let content = sample(size, grain as u64);
        write(folder, "a-delta.vmdk", &esx(&content, grain));
        let line = format!("RW {} VMFSSPARSE \"a-delta.vmdk\"", size / 512);
        let image = write(
            folder,
            "a.vmdk",
            descriptor("vmfsSparse", "", &line).as_bytes(),
        );
        let disk = open(&image).unwrap();
        assert_eq!(disk.format(), Format::VmdkSparse);
        assert!(all(&*disk).unwrap() == content);
        assert!(qemu_sees(&image) == content);
        super::shared::check_extents(&*disk);
        // As a delta of a disk on VMFS.
        let below = sample(size, 99);
        write(folder, "b-flat.vmdk", &below);
        let line = format!("RW {} VMFS \"b-flat.vmdk\"", size / 512);
        write(folder, "b.vmdk", descriptor("vmfs", "", &line).as_bytes());
        let more = "parentCID=12345678\nparentFileNameHint=\"b.vmdk\"";
        let line = format!("RW {} VMFSSPARSE \"a-delta.vmdk\"", size / 512);
        let image = write(
            folder,
            "c.vmdk",
            descriptor("vmfsSparse", more, &line).as_bytes(),
        );
        let disk = open(&image).unwrap();
        assert_eq!(disk.format(), Format::VmdkDifferencing);
        assert_eq!(disk.files().len(), 4);
        let content = all(&*disk).unwrap();
        assert!(content == qemu_sees(&image));
        assert!(content != below);
    }
}

#[test]
fn extents_of_all_kinds_follow_one_another() {
    let work = tempfile::tempdir().unwrap();
    let folder = work.path();
    let flat = sample(200 * 512, 3);
    write(folder, "my flat.bin", &flat);
    let (stream, inside) = (sample(2 << 20, 4), sample(3 << 20, 5));
    let sparse = folder.join("sparse.vmdk");
    let raw = write(folder, "raw", &stream);
    super::shared::run(
        std::process::Command::new("qemu-img")
            .args(["convert", "-f", "raw", "-O", "vmdk"])
            .args([&raw, &sparse]),
    );
    write(folder, "esx.vmdk", &esx(&inside, 2));
    let lines = "RW 63 FLAT \"my flat.bin\" 100\nRDONLY 4096 SPARSE \"sparse.vmdk\"\nRW 20 ZERO\n\
                 RW 6144 VMFSSPARSE \"esx.vmdk\"\nRW 1 FLAT \"my flat.bin\" 0 partitionUUID \"x y\"";
    let text = descriptor(
        "custom",
        "ddb.uuid = \"60 00 c2 9b 2d 2f 6f 9f-4c 3b 0b 5e 8e 1d 2c 77\"",
        lines,
    );
    let expected = [
        &flat[100 * 512..163 * 512],
        &stream,
        &[0; 20 * 512],
        &inside,
        &flat[..512],
    ]
    .concat();
    for (number, text) in [
        text.clone(),
        text.replace('\n', "\r\n"),
        format!("\u{feff}{text}"),
        format!("  \n{text}\n\n# \u{fc}\nunknown = 1\nsomething\n"),
    ]
    .into_iter()
    .enumerate()
    {
        let image = write(folder, &format!("disk {number}.vmdk"), text.as_bytes());
        let disk = open(&image).unwrap();
        assert_eq!(disk.format(), Format::VmdkSplit);
        assert_eq!(disk.files().len(), 4, "a file that is named twice is one");
        assert!(all(&*disk).unwrap() == expected, "{number}");
        super::shared::check_extents(&*disk);
        let id = Guid::from_text("6000c29b2d2f6f9f4c3b0b5e8e1d2c77").unwrap();
        assert_eq!(disk.identity().disk_id, Some(id));
    }
}

#[test]
fn names_in_other_letters() {
    let work = tempfile::tempdir().unwrap();
    let folder = work.path();
    write(folder, "Größe €.bin", &[5; 4096]);
    let utf8 = descriptor(
        "monolithicFlat",
        "encoding=\"UTF-8\"",
        "RW 8 FLAT \"Größe €.bin\" 0",
    );
    let image = write(folder, "a.vmdk", utf8.as_bytes());
    assert_eq!(ours(&image).unwrap(), [5; 4096]);
    assert_eq!(qemu_sees(&image), [5; 4096]);
    let windows = descriptor(
        "monolithicFlat",
        "encoding=\"windows-1252\"",
        "RW 8 FLAT \"NAME\" 0",
    );
    let at = windows.find("NAME").unwrap();
    let mut windows = windows.into_bytes();
    windows.splice(at..at + 4, *b"Gr\xf6\xdfe \x80.bin");
    let image = write(folder, "b.vmdk", &windows);
    assert_eq!(ours(&image).unwrap(), [5; 4096]);
    // A path of Windows is a name here, and one into a folder is one.
    for name in [
        r"C:\vm\x.bin",
        r"\\server\x.bin",
        "sub/y.bin",
        r".\sub\y.bin",
    ] {
        fs::create_dir_all(folder.join("sub")).unwrap();
        write(folder, "x.bin", &[5; 4096]);
        write(&folder.join("sub"), "y.bin", &[5; 4096]);
        let text = descriptor("monolithicFlat", "", &format!("RW 8 FLAT \"{name}\" 0"));
        let image = write(folder, "c.vmdk", text.as_bytes());
        assert_eq!(all(&*open(&image).unwrap()).unwrap(), [5; 4096], "{name}");
    }
}

#[test]
fn what_begins_like_one_and_ends_like_a_vhd() {
    use cairn_disk::vhd::footer::{DiskType, Footer, Geometry};
    let content = sample(3 * GRAIN, 6);
    let (stream, _) = stream(&content);
    let footer = |size: u64, disk_type| Footer {
        data_offset: 512,
        timestamp: 1,
        creator: *b"win ",
        current_size: size,
        geometry: Geometry::of(size),
        disk_type,
        unique_id: Guid([7; 16]),
        checksum_holds: true,
    };
    let work = tempfile::tempdir().unwrap();
    let raw = write(work.path(), "raw", &content);
    let sparse = work.path().join("a.vmdk");
    super::shared::run(
        std::process::Command::new("qemu-img")
            .args(["convert", "-f", "raw", "-O", "vmdk"])
            .args([&raw, &sparse]),
    );
    let bytes = fs::read(&sparse).unwrap();
    // The last sector of the file may be the guest's, and so may the first one of a fixed VHD.
    for (size, disk_type) in [
        (4096, DiskType::Fixed),
        (4096, DiskType::Dynamic),
        (bytes.len() as u64 - 512, DiskType::Fixed),
    ] {
        let mut bytes = bytes.clone();
        let at = bytes.len() - 512;
        bytes[at..].copy_from_slice(&footer(size, disk_type).encode());
        let image = write(work.path(), "b.vmdk", &bytes);
        let error = open(&image).err().unwrap();
        assert_eq!(error.kind(), cairn_base::Kind::Denied, "{error}");
        assert!(error.to_string().contains("ends like a VHD"), "{error}");
        let disk = open_as(&image, FormatHint::Vmdk).unwrap();
        assert_eq!(disk.format(), Format::VmdkSparse, "{disk_type:?} {size}");
        // One that is damaged is no VHD.
        bytes[at + 70] ^= 1;
        bytes[at + 48] ^= 0x70;
        let image = write(work.path(), "b.vmdk", &bytes);
        let disk = open(&image).unwrap();
        assert_eq!(disk.size(), content.len() as u64);
    }
    let size = stream.len() as u64;
    let vhd = [&stream[..], &footer(size, DiskType::Fixed).encode()].concat();
    let image = write(work.path(), "c.vhd", &vhd);
    assert!(open(&image).is_err());
    let disk = open_as(&image, FormatHint::Vhd).unwrap();
    assert_eq!((disk.format(), disk.size()), (Format::VhdFixed, size));
}
