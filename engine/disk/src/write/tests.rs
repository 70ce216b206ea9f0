use super::*;
use crate::{FormatHint, Guid, VirtualDisk, open};
use cairn_base::Kind;
use cairn_base::read_at::read_vec;
use proptest::prelude::*;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// Every kind of writer at `path`, for a disk of `size` bytes.
fn writers(size: u64, folder: &Path) -> Vec<(std::path::PathBuf, Box<dyn DiskWriter>)> {
    let (raw, vhd, vhdx, old) = (
        folder.join("disk.raw"),
        folder.join("disk.vhd"),
        folder.join("disk.vhdx"),
        folder.join("old.raw"),
    );
    let options = VhdxOptions {
        block_size: Some(1 << 20),
        ..VhdxOptions::default()
    };
    // A target full of what must not be seen again.
    std::fs::write(&old, vec![0xEE; size as usize + 5000]).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&old).unwrap();
    vec![
        (
            raw.clone(),
            Box::new(RawWriter::create(&raw, size).unwrap()),
        ),
        (
            vhd.clone(),
            Box::new(VhdWriter::create(&vhd, size, None).unwrap()),
        ),
        (
            vhdx.clone(),
            Box::new(VhdxWriter::create(&vhdx, size, options).unwrap()),
        ),
        (
            old.clone(),
            Box::new(RawWriter::onto(file, &old, size, true).unwrap()),
        ),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn what_is_written_in_any_order_is_read(
        size in 1u64..5_000_000,
        writes in proptest::collection::vec((any::<u64>(), 0usize..300_000, 0u8..4), 0..12),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut model = vec![0u8; size as usize];
        let writers = writers(size, folder.path());
        for (offset, length, byte) in writes {
            let start = (offset % size) as usize;
            let end = (start + length).min(model.len());
            model[start..end].fill(byte);
            for (_, writer) in &writers {
                if byte == 3 {
                    model[start..end].fill(0);
                    writer.write_zeros(start as u64..end as u64).unwrap();
                } else {
                    writer.write_at(start as u64, &model[start..end]).unwrap();
                }
            }
        }
        for (path, writer) in writers {
            let written = writer.finish().unwrap();
            let disk = open(&path).unwrap();
            prop_assert_eq!(disk.size(), written.disk_size);
            prop_assert_eq!(std::fs::metadata(&path).unwrap().len(), written.file_size);
            prop_assert!(disk.size() >= size && disk.size() < size + 512);
            let mut expected = model.clone();
            expected.resize(disk.size() as usize, 0);
            prop_assert!(read_vec(&*disk, 0, expected.len()).unwrap() == expected, "{}", path.display());
            // Everything outside the extents is zeros.
            let mut covered = vec![false; expected.len()];
            for extent in disk.data_extents(0..u64::MAX).unwrap() {
                covered[extent.start as usize..extent.end as usize].fill(true);
            }
            for (byte, covered) in expected.iter().zip(&covered) {
                prop_assert!(*covered || *byte == 0);
            }
            prop_assert!(disk.warnings().is_empty());
        }
    }
}

#[test]
fn only_blocks_with_data_are_allocated() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.vhdx");
    let options = VhdxOptions {
        block_size: Some(1 << 20),
        disk_id: Some(Guid([7; 16])),
        sector_size: 4096,
    };
    let writer = Box::new(VhdxWriter::create(&path, 3 << 40, options).unwrap());
    writer.write_at(0, &vec![0; 3 << 20]).unwrap();
    writer.write_at((3 << 40) - 1, &[1]).unwrap();
    writer.write_at(1 << 40, &[2; 8192]).unwrap();
    let written = writer.finish().unwrap();
    // 3 MiB of headers, 24 MiB of block table, two blocks.
    assert_eq!(written.file_size, (3 + 25 + 2) << 20);
    assert_eq!(written.data_bytes, 8193);
    let disk = open(&path).unwrap();
    assert_eq!(disk.identity().disk_id, Some(Guid([7; 16])));
    assert_eq!(disk.sector_size(), 4096);
    let extents = disk.data_extents((1 << 40) - 5..(1 << 40) + 100).unwrap();
    assert_eq!(extents, [1 << 40..(1 << 40) + 100]);
    assert_eq!(read_vec(&*disk, (3 << 40) - 2, 2).unwrap(), [0, 1]);
}

#[test]
fn limits_and_existing_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let vhd = |size| VhdWriter::create(&path, size, None).err().unwrap().kind();
    let vhdx = |size, options| {
        VhdxWriter::create(&path, size, options)
            .err()
            .unwrap()
            .kind()
    };
    assert_eq!(vhd((2040 << 30) + 1), Kind::Unsupported);
    assert_eq!(vhd(u64::MAX), Kind::Unsupported);
    assert_eq!(
        vhdx((64 << 40) + 1, VhdxOptions::default()),
        Kind::Unsupported
    );
    let bad = VhdxOptions {
        sector_size: 520,
        ..VhdxOptions::default()
    };
    assert_eq!(vhdx(1, bad), Kind::Invalid);
    let bad = VhdxOptions {
        block_size: Some(3 << 20),
        ..VhdxOptions::default()
    };
    assert_eq!(vhdx(1, bad), Kind::Invalid);
    assert!(!path.exists());
    std::fs::write(&path, "precious").unwrap();
    assert_eq!(vhd(1), Kind::Exists);
    assert_eq!(vhdx(1, VhdxOptions::default()), Kind::Exists);
    assert_eq!(
        RawWriter::create(&path, 1).err().unwrap().kind(),
        Kind::Exists
    );
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
}

#[test]
fn writes_beyond_the_disk_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (_, writer) in writers(1024, folder.path()) {
        assert_eq!(
            writer.write_at(1020, &[1; 5]).unwrap_err().kind(),
            Kind::Invalid
        );
        assert_eq!(
            writer.write_at(u64::MAX, &[1; 5]).unwrap_err().kind(),
            Kind::Invalid
        );
    }
}

#[test]
fn a_file_whose_writing_was_cut_short_is_no_image() {
    let folder = tempfile::tempdir().unwrap();
    for (path, writer) in writers(3 << 20, folder.path()) {
        writer.write_at(0, &[1; 100]).unwrap();
        drop(writer);
        if path.extension().is_some_and(|e| e != "raw") {
            assert_eq!(open(&path).err().unwrap().kind(), Kind::Damaged);
        }
    }
}

#[test]
fn a_disk_is_shared_by_threads() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.vhd");
    let writer = Box::new(VhdWriter::create(&path, 20 << 20, None).unwrap());
    for piece in (0..20u64).rev() {
        writer
            .write_at(piece << 20, &vec![piece as u8 + 1; 1 << 20])
            .unwrap();
    }
    writer.finish().unwrap();
    // One cleared bit: that sector reads as zeros although bytes lie there.
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    let mut entry = [0; 4];
    file.read_exact_at(&mut entry, 1536 + 4 * 3).unwrap();
    file.write_all_at(&[0b1011_1111], u64::from(u32::from_be_bytes(entry)) * 512)
        .unwrap();
    let disk: Arc<dyn VirtualDisk> = crate::open_as(&path, FormatHint::Vhd).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let disk = disk.clone();
            scope.spawn(move || {
                for round in 0..200u64 {
                    let at = (thread * 977 + round * 65_537 * 7) % ((20 << 20) - 4096);
                    for (index, byte) in read_vec(&*disk, at, 4096).unwrap().iter().enumerate() {
                        let at = at + index as u64;
                        let cleared = (3 * (2 << 20) + 512..3 * (2 << 20) + 1024).contains(&at);
                        let expected = if cleared { 0 } else { (at >> 20) as u8 + 1 };
                        assert_eq!(*byte, expected, "at {at}");
                    }
                }
            });
        }
    });
}
