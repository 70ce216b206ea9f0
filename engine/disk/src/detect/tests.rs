use super::*;
use crate::vhd::footer::{DiskType, Footer, Geometry};
use crate::{Guid, vhd::footer, vhdx};
use cairn_base::Kind;
use cairn_base::read_at::read_vec;
use proptest::prelude::*;

fn fixed(size: u64) -> Footer {
    Footer {
        data_offset: u64::MAX,
        timestamp: 1,
        creator: *b"win ",
        current_size: size,
        geometry: Geometry::of(size),
        disk_type: DiskType::Fixed,
        unique_id: Guid([1; 16]),
        checksum_holds: true,
    }
}

fn open_vec(bytes: Vec<u8>) -> Result<Arc<dyn VirtualDisk>> {
    open_bytes(Arc::new(bytes), FormatHint::Detect)
}

fn with_footer(content: &[u8], footer: &[u8]) -> Vec<u8> {
    [content, footer].concat()
}

#[test]
fn a_fixed_vhd_is_its_content() {
    let content: Vec<u8> = (0..4096u32).map(|n| (n % 251) as u8).collect();
    let good = with_footer(&content, &fixed(4096).encode());
    let old = with_footer(&content, &fixed(4096).encode()[..511]);
    for image in [good.clone(), old] {
        let disk = open_vec(image).unwrap();
        assert_eq!(disk.format(), Format::VhdFixed);
        assert_eq!(read_vec(&*disk, 0, 4096).unwrap(), content);
        assert_eq!(disk.size(), 4096);
        assert!(disk.warnings().is_empty());
    }
    let raw = open_bytes(Arc::new(good), FormatHint::Raw).unwrap();
    assert_eq!((raw.format(), raw.size()), (Format::Raw, 4096 + 512));
}

#[test]
fn a_footer_whose_checksum_is_wrong_is_believed_only_if_the_size_agrees() {
    let mut footer = fixed(4096).encode();
    footer[footer::SIZE - 1] = 1;
    let disk = open_vec(with_footer(&[1; 4096], &footer)).unwrap();
    assert_eq!((disk.format(), disk.size()), (Format::VhdFixed, 4096));
    assert_eq!(disk.warnings().len(), 1);
    let error = open_vec(with_footer(&[1; 8192], &footer)).err().unwrap();
    assert_eq!(error.kind(), Kind::Damaged);
    // Nor does a raw disk become a VHD by its last sector's first words.
    let mut sector = [7; 512];
    sector[..8].copy_from_slice(footer::COOKIE);
    assert!(open_vec(with_footer(&[1; 8192], &sector)).is_err());
}

#[test]
fn a_fixed_vhd_that_was_cut_off_is_damaged() {
    let image = with_footer(&[1; 4096], &fixed(8192).encode());
    assert_eq!(open_vec(image).err().unwrap().kind(), Kind::Damaged);
    let image = with_footer(&[1; 4096], &fixed(u64::MAX).encode());
    assert_eq!(open_vec(image).err().unwrap().kind(), Kind::Damaged);
}

#[test]
fn anything_else_is_raw_unless_its_name_says_otherwise() {
    let disk = open_vec(vec![1; 1000]).unwrap();
    assert_eq!((disk.format(), disk.sector_size()), (Format::Raw, 512));
    let empty = open_vec(Vec::new()).err().unwrap();
    assert_eq!(empty.kind(), Kind::Unsupported);
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.VHDX", "a.avhd", "a.qcow2", "a.vdi", "a.vhds", "a.vmdk"] {
        let path = folder.path().join(name);
        std::fs::write(&path, [1; 5000]).unwrap();
        let error = open(&path).err().unwrap();
        assert_eq!((error.kind(), error.path()), (Kind::Damaged, Some(&*path)));
        let disk = open_as(&path, FormatHint::Raw).unwrap();
        assert_eq!(disk.identity().file.unwrap().size, 5000);
        assert_eq!(disk.changed().unwrap(), None);
        std::fs::write(&path, [1; 5001]).unwrap();
        assert_eq!(disk.changed().unwrap().as_deref(), Some(&*path));
    }
    let path = folder.path().join("a.img");
    std::fs::write(&path, b"QFI\xfb\0\0\0\x01 and more").unwrap();
    let error = open(&path).err().unwrap();
    assert_eq!(error.kind(), Kind::Unsupported);
    assert!(error.to_string().contains("qemu-img convert"), "{error}");
}

/// Whatever the bytes are: opened or refused, read or refused, and always soon.
fn exercise(bytes: Vec<u8>) {
    for hint in [
        FormatHint::Detect,
        FormatHint::Vhd,
        FormatHint::Vhdx,
        FormatHint::Qcow2,
        FormatHint::Vdi,
        FormatHint::Vmdk,
        FormatHint::Raw,
    ] {
        let Ok(disk) = open_bytes(Arc::new(bytes.clone()), hint) else {
            continue;
        };
        let _ = disk.data_extents(0..disk.size().min(1 << 30));
        disk.will_need(0..1 << 20);
        for at in [0, disk.size() / 2, disk.size().saturating_sub(5000)] {
            let length = (disk.size() - at).min(5000) as usize;
            let _ = read_vec(&*disk, at, length);
        }
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..3000), kind in 0..4) {
        match kind {
            0 if bytes.len() >= 8 => bytes[..8].copy_from_slice(vhdx::SIGNATURE),
            1 => bytes.extend(fixed(bytes.len() as u64 / 2).encode()),
            2 => {
                let footer = Footer { data_offset: 512, disk_type: DiskType::Dynamic, ..fixed(1 << 20) };
                bytes.splice(0..0, footer.encode());
            }
            _ => {}
        }
        exercise(bytes);
    }

    #[test]
    fn noise_in_real_images_never_panics(
        is_vhd: bool,
        noise in proptest::collection::vec((0usize..4096, any::<u8>()), 0..6),
        seal: bool,
    ) {
        use crate::write::{DiskWriter, VhdWriter, VhdxOptions, VhdxWriter};
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image");
        let writer: Box<dyn DiskWriter> = if is_vhd {
            Box::new(VhdWriter::create(&path, 5 << 20, None).unwrap())
        } else {
            let options = VhdxOptions { block_size: Some(1 << 20), ..VhdxOptions::default() };
            Box::new(VhdxWriter::create(&path, 3 << 20, options).unwrap())
        };
        writer.write_at(1000, &[1; 100]).unwrap();
        writer.finish().unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        for (at, byte) in noise {
            // The places where structures are: spread over headers, region tables, metadata and block table.
            let bases = [64 << 10, 128 << 10, 192 << 10, 256 << 10, 2 << 20, (2 << 20) + (64 << 10), 3 << 20];
            let at = if is_vhd { at } else { bases[at % 7] + at / 7 % 300 };
            bytes[at] = byte;
        }
        if seal && !is_vhd {
            for (at, length) in [(64 << 10, 4096), (128 << 10, 4096), (192 << 10, 65536), (256 << 10, 65536)] {
                crate::vhdx::header::seal(&mut bytes[at..at + length]);
            }
        }
        exercise(bytes);
    }
}
