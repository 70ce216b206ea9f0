//! What is made to cost much, or contradicts itself.

use super::made::{descriptor, esx, in_full, put_u32, put_u64, sample, write};
use cairn_base::Kind;
use cairn_disk::{FormatHint, open, open_as, open_bytes};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

fn refused(folder: &Path, text: &str, kind: Kind, said: &str) {
    let image = write(folder, "disk.vmdk", text.as_bytes());
    for hint in [FormatHint::Detect, FormatHint::Vmdk] {
        let error = open_as(&image, hint).err().unwrap();
        let text = in_full(&error);
        assert_eq!(error.kind(), kind, "{text}");
        assert!(text.contains(said), "no {said}: {text}");
    }
}

#[test]
fn descriptors_without_end() {
    let work = tempfile::tempdir().unwrap();
    let folder = work.path();
    let lines = "RW 8 ZERO\n".repeat(100_000);
    refused(
        folder,
        &descriptor("custom", "", &lines),
        Kind::Damaged,
        "more than 4096 extents",
    );
    let lines = "RW 8 FLAT \"disk-flat.bin\" 0\n".repeat(30_000);
    refused(
        folder,
        &descriptor("custom", "", &lines),
        Kind::Damaged,
        "more than 4096 extents",
    );
    let long = descriptor("custom", "", &"#\n".repeat(1 << 20));
    refused(folder, &long, Kind::Damaged, "no more than 1048576");
    refused(
        folder,
        "# Disk DescriptorFile\nversion=1\n\0createType=\"custom\"",
        Kind::Damaged,
        "createType",
    );
}

#[test]
fn extents_that_contradict_their_files() {
    let work = tempfile::tempdir().unwrap();
    let folder = work.path();
    write(folder, "flat.bin", &[7; 8192]);
    write(folder, "esx.bin", &esx(&sample(1 << 20, 1), 1));
    let custom = |lines: &str| descriptor("custom", "", lines);
    let damaged = |lines: &str, said: &str| refused(folder, &custom(lines), Kind::Damaged, said);
    damaged("RW 17 FLAT \"flat.bin\" 0", "has only 8192 bytes");
    damaged("RW 1 FLAT \"flat.bin\" 16", "has only 8192 bytes");
    damaged(
        "RW 1 FLAT \"flat.bin\" 2251799813685247",
        "has only 8192 bytes",
    );
    damaged(
        "RW 8 FLAT \"flat.bin\" 0\nRW 8 FLAT \"flat.bin\" 7",
        "overlap",
    );
    damaged(
        "RW 8 FLAT \"flat.bin\" 8\nRW 1 ZERO\nRW 9 FLAT \"flat.bin\" 0",
        "overlap",
    );
    damaged("RW 8 FLAT \"disk.vmdk\" 0", "its own file");
    damaged("RW 8 FLAT \"./disk.vmdk\" 0", "its own file");
    damaged("RW 8 SPARSE \"flat.bin\"", "begins with `KDMV`");
    damaged(
        "RW 2048 VMFSSPARSE \"esx.bin\"\nRW 2048 VMFSSPARSE \"esx.bin\"",
        "twice",
    );
    damaged(
        "RW 2048 VMFSSPARSE \"esx.bin\"\nRW 8 FLAT \"esx.bin\" 0",
        "twice",
    );
    damaged(
        "RW 8 FLAT \"esx.bin\" 0\nRW 2048 VMFSSPARSE \"esx.bin\"",
        "twice",
    );
    damaged("RW 2049 VMFSSPARSE \"esx.bin\"", "its header says");
    damaged("RW 2047 VMFSSPARSE \"esx.bin\"", "its header says");
    damaged("RW 8 FLAT \"..\" 0", "is no file");
    refused(
        folder,
        &custom("RW 8 FLAT \"gone.bin\" 0"),
        Kind::NotFound,
        "gone.bin",
    );
    refused(
        folder,
        &custom("RW 8 SESPARSE \"flat.bin\""),
        Kind::Unsupported,
        "SESPARSE",
    );
    refused(
        folder,
        &custom("NOACCESS 8 FLAT \"flat.bin\" 0"),
        Kind::Unsupported,
        "NOACCESS",
    );
    let se = descriptor("seSparse", "", "RW 8 SESPARSE \"flat.bin\"");
    refused(folder, &se, Kind::Unsupported, "SESPARSE");
    // A link is the file.
    std::os::unix::fs::symlink("flat.bin", folder.join("link.bin")).unwrap();
    fs::hard_link(folder.join("flat.bin"), folder.join("hard.bin")).unwrap();
    for name in ["link.bin", "hard.bin"] {
        damaged(
            &format!("RW 8 FLAT \"flat.bin\" 0\nRW 8 FLAT \"{name}\" 0"),
            "overlap",
        );
    }
}

#[test]
fn what_is_encrypted_is_refused() {
    let work = tempfile::tempdir().unwrap();
    let folder = work.path();
    write(folder, "flat.bin", &[7; 4096]);
    for line in [
        "encryptionKeys=\"vmware:key/list/(pair/(fqid/a/b,x))\"",
        "keyID = \"a/b\"",
    ] {
        let text = descriptor("vmfs", line, "RW 8 VMFS \"flat.bin\" 0");
        refused(folder, &text, Kind::Unsupported, "encrypted");
    }
}

#[test]
fn parts_of_disks_are_no_disks() {
    let work = tempfile::tempdir().unwrap();
    let folder = work.path();
    let esx = write(folder, "a-delta.vmdk", &esx(&sample(1 << 20, 1), 1));
    let split = folder.join("s.vmdk");
    super::shared::run(
        std::process::Command::new("qemu-img")
            .args([
                "create",
                "-q",
                "-f",
                "vmdk",
                "-o",
                "subformat=twoGbMaxExtentSparse",
            ])
            .arg(&split)
            .arg("3G"),
    );
    for path in [esx, folder.join("s-s001.vmdk")] {
        let error = open(&path).err().unwrap();
        assert_eq!(error.kind(), Kind::Unsupported, "{error}");
        assert!(in_full(&error).contains("a part of a disk"), "{error}");
    }
    // Nor can an image that is no file have others beside it.
    let bytes = fs::read(&split).unwrap();
    let error = open_bytes(Arc::new(bytes), FormatHint::Detect)
        .err()
        .unwrap();
    assert!(in_full(&error).contains("s-s001.vmdk"), "{error}");
}

#[test]
fn large_and_empty_disks_cost_nothing() {
    let work = tempfile::tempdir().unwrap();
    // 62 TiB, of which the file says that nothing is there but the last grain.
    let sectors: u64 = 62 << 31;
    let tables = sectors.div_ceil(512 * 128);
    let mut head = vec![0; 512];
    head[..4].copy_from_slice(b"KDMV");
    put_u32(&mut head, 4, 1);
    put_u32(&mut head, 8, 1);
    put_u64(&mut head, 12, sectors);
    put_u64(&mut head, 20, 128);
    put_u64(&mut head, 28, 1);
    put_u64(&mut head, 36, 20);
    put_u32(&mut head, 44, 512);
    put_u64(&mut head, 56, 64);
    head[73..77].copy_from_slice(b"\n \r\n");
    let line = format!("RW {sectors} SPARSE \"x\"");
    let text = descriptor("monolithicSparse", "", &line);
    super::made::put(&mut head, 512, text.as_bytes());
    let path = write(work.path(), "large.vmdk", &head);
    let file = File::options().write(true).open(&path).unwrap();
    let table = 64 * 512 + (tables * 4).next_multiple_of(512);
    let put = |at: u64, value: u32| file.write_all_at(&value.to_le_bytes(), at).unwrap();
    put(64 * 512 + (tables - 1) * 4, (table / 512) as u32);
    let last = (sectors / 128 - 1) % 512;
    put(table + last * 4, (table / 512) as u32 + 128);
    file.write_all_at(&[9; 65536], table + 65536).unwrap();
    let disk = open(&path).unwrap();
    let size = sectors * 512;
    assert_eq!(disk.size(), size);
    assert_eq!(
        disk.data_extents(0..u64::MAX).unwrap(),
        [size - 65536..size]
    );
    let end = cairn_base::read_at::read_vec(&*disk, size - 65537, 65537).unwrap();
    assert!(end[0] == 0 && end[1..].iter().all(|byte| *byte == 9));
}
