use super::*;
use crate::vhd::footer::{DiskType, Footer, Geometry};
use crate::{Format, FormatHint, Guid, VirtualDisk, open};
use cairn_base::Kind;
use cairn_base::read_at::read_vec;
use proptest::prelude::*;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Every kind of writer in `folder`, for a disk of `size` bytes: to new files, and to files full of what must not be seen again.
fn writers(size: u64, folder: &Path) -> Vec<(PathBuf, Format, Box<dyn DiskWriter>)> {
    let vhdx = VhdxOptions {
        block_size: Some(1 << 20),
        ..VhdxOptions::default()
    };
    let mut writers: Vec<(PathBuf, Format, Box<dyn DiskWriter>)> = Vec::new();
    let new = |name: &str| folder.join(name);
    let path = new("disk.raw");
    let raw = Box::new(RawWriter::create(&path, size).unwrap());
    writers.push((path, Format::Raw, raw));
    let path = new("disk.vhd");
    let vhd = Box::new(VhdWriter::create(&path, size, None).unwrap());
    writers.push((path, Format::VhdDynamic, vhd));
    let path = new("fixed.vhd");
    let fixed = Box::new(FixedVhdWriter::create(&path, size, None).unwrap());
    writers.push((path, Format::VhdFixed, fixed));
    let path = new("disk.vhdx");
    let made = Box::new(VhdxWriter::create(&path, size, vhdx).unwrap());
    writers.push((path, Format::VhdxDynamic, made));
    let path = new("fixed.vhdx");
    let fixed = Box::new(FixedVhdxWriter::create(&path, size, vhdx).unwrap());
    writers.push((path, Format::VhdxFixed, fixed));
    let old = |name: &str| {
        let path = folder.join(name);
        std::fs::write(&path, vec![0xEE; size as usize + 5000]).unwrap();
        let file = File::options().read(true).write(true).open(&path).unwrap();
        (path, file)
    };
    let (path, file) = old("old.raw");
    let raw = Box::new(RawWriter::onto(file, &path, size, true).unwrap());
    writers.push((path, Format::Raw, raw));
    let (path, file) = old("old-fixed.vhd");
    let fixed = Box::new(FixedVhdWriter::onto(file, &path, size, None, true).unwrap());
    writers.push((path, Format::VhdFixed, fixed));
    let (path, file) = old("old-fixed.vhdx");
    let fixed = Box::new(FixedVhdxWriter::onto(file, &path, size, vhdx, true).unwrap());
    writers.push((path, Format::VhdxFixed, fixed));
    writers
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
            for (_, _, writer) in &writers {
                if byte == 3 {
                    model[start..end].fill(0);
                    writer.write_zeros(start as u64..end as u64).unwrap();
                } else {
                    writer.write_at(start as u64, &model[start..end]).unwrap();
                }
            }
        }
        for (path, format, writer) in writers {
            let written = writer.finish().unwrap();
            let disk = open(&path).unwrap();
            prop_assert_eq!(disk.format(), format);
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
    let fixed = |size| FixedVhdWriter::create(&path, size, None).err().unwrap();
    assert_eq!(fixed((2040 << 30) + 1).kind(), Kind::Unsupported);
    assert_eq!(fixed(0).kind(), Kind::Unsupported);
    let fixed = |size, options| FixedVhdxWriter::create(&path, size, options).err().unwrap();
    let options = VhdxOptions::default();
    assert_eq!(fixed((64 << 40) + 1, options).kind(), Kind::Unsupported);
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
    for (_, _, writer) in writers(1024, folder.path()) {
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
    for (path, format, writer) in writers(3 << 20, folder.path()) {
        writer.write_at(0, &[1; 100]).unwrap();
        drop(writer);
        if format != Format::Raw {
            assert_eq!(open(&path).err().unwrap().kind(), Kind::Damaged);
        }
    }
}

#[test]
fn a_fixed_vhd_is_the_disk_and_a_footer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.vhd");
    // No whole number of cylinders.
    let size = (33 << 20) + 3 * 512;
    // First over what a dynamic VHD left, then over what this one did.
    let dynamic = VhdWriter::create(&path, size, None).unwrap();
    dynamic.write_at(0, &[5; 6 << 20]).unwrap();
    Box::new(dynamic).finish().unwrap();
    for _ in 0..2 {
        let file = File::options().read(true).write(true).open(&path).unwrap();
        let id = Guid([9; 16]);
        let writer = FixedVhdWriter::onto(file, &path, size, Some(id), true).unwrap();
        // Nobody takes what is there for an image.
        assert_eq!(open(&path).err().unwrap().kind(), Kind::Damaged);
        writer.write_at(size - 1, &[7]).unwrap();
        writer.write_at(3 << 20, &[8; 1 << 20]).unwrap();
        let written = Box::new(writer).finish().unwrap();
        assert_eq!(written.file_size, size + 512);
        assert_eq!(written.data_bytes, (1 << 20) + 1);
        let bytes = std::fs::read(&path).unwrap();
        let (disk, footer) = bytes.split_at(size as usize);
        let mut expected = vec![0; disk.len()];
        expected[3 << 20..4 << 20].fill(8);
        expected[disk.len() - 1] = 7;
        assert!(disk == expected);
        let footer = Footer::parse(footer, size).unwrap();
        assert!(footer.checksum_holds && footer.timestamp > 0);
        assert_eq!(footer.data_offset, u64::MAX);
        assert_eq!(footer.disk_type, DiskType::Fixed);
        assert_eq!((footer.current_size, footer.unique_id), (size, id));
        // Whoever goes by the geometry sees fewer sectors, never more.
        let geometry = Geometry {
            cylinders: 993,
            heads: 4,
            sectors: 17,
        };
        assert_eq!(footer.geometry, geometry);
        assert_eq!(footer.geometry.bytes(), size - 32_256);
        let used = std::fs::metadata(&path).unwrap().blocks() * 512;
        assert!(used < 2 << 20, "{used} bytes are used");
    }
}

#[test]
fn all_blocks_of_a_fixed_vhdx_are_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.vhdx");
    // More than a chunk of 4 GiB; the last block is not whole.
    let size = (5 << 30) + 512;
    let options = VhdxOptions {
        block_size: Some(1 << 20),
        disk_id: Some(Guid([7; 16])),
        sector_size: 512,
    };
    let writer = FixedVhdxWriter::create(&path, size, options).unwrap();
    writer.write_at(size - 1, &[7]).unwrap();
    writer.write_at((4 << 30) - 1, &[8; 2]).unwrap();
    let written = Box::new(writer).finish().unwrap();
    let (start, count) = (4 << 20, 5121);
    assert_eq!(written.file_size, start + (count << 20));
    let file = File::open(&path).unwrap();
    let found = file.metadata().unwrap();
    assert_eq!(found.len(), written.file_size);
    assert!(found.blocks() * 512 < 2 << 20, "{} blocks", found.blocks());
    let mut table = vec![0; 8 * (count as usize + 2)];
    file.read_exact_at(&mut table, 3 << 20).unwrap();
    let (table, _) = table.as_chunks::<8>();
    let mut expected: Vec<u64> = (0..count)
        .map(|block| (start + (block << 20)) | 6)
        .collect();
    // The entry of the first sector bitmap, which is not there; and what is behind the last block's.
    expected.insert(4096, 0);
    expected.push(0);
    let found = table.iter().map(|entry| u64::from_le_bytes(*entry));
    assert!(found.eq(expected));
    let disk = open(&path).unwrap();
    assert_eq!(disk.format(), Format::VhdxFixed);
    assert_eq!(disk.identity().disk_id, options.disk_id);
    let extents = disk.data_extents(0..u64::MAX).unwrap();
    assert_eq!(extents.len(), 2, "{extents:?}");
    assert_eq!(read_vec(&*disk, size - 2, 2).unwrap(), [0, 7]);
    assert_eq!(read_vec(&*disk, (4 << 30) - 2, 4).unwrap(), [0, 8, 8, 0]);
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
