//! Differencing disks are backed up and mounted together with their parents, or refused.

use super::bench::{Bench, have, text, tool};
use super::mount::{Mounted, have_fuse};
use super::serve::Served;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const SIZE: usize = 6 << 20;
const BLOCK: usize = 2 << 20;

/// Puts the checksum of a footer or header of a VHD at `at`.
fn seal(bytes: &mut [u8], at: usize) {
    bytes[at..at + 4].fill(0);
    let sum: u32 = bytes.iter().map(|byte| u32::from(*byte)).sum();
    bytes[at..at + 4].copy_from_slice(&(!sum).to_be_bytes());
}

/// A differencing child of the VHD `base` in which the sectors of `written` hold `byte`.
fn make_child(base: &Path, child: &Path, written: &[usize], byte: u8) {
    let parent = fs::read(base).unwrap();
    let mut footer = parent[parent.len() - 512..].to_vec();
    let parent_id = footer[68..84].to_vec();
    footer[16..24].copy_from_slice(&512u64.to_be_bytes());
    footer[60..64].copy_from_slice(&4u32.to_be_bytes());
    footer[68..84].fill(byte);
    seal(&mut footer, 64);
    let blocks = SIZE / BLOCK;
    let mut header = vec![0; 1024];
    header[..16].copy_from_slice(b"cxsparse\xff\xff\xff\xff\xff\xff\xff\xff");
    header[16..24].copy_from_slice(&1536u64.to_be_bytes());
    header[24..28].copy_from_slice(&0x10000u32.to_be_bytes());
    header[28..32].copy_from_slice(&(blocks as u32).to_be_bytes());
    header[32..36].copy_from_slice(&(BLOCK as u32).to_be_bytes());
    header[40..56].copy_from_slice(&parent_id);
    let changed = fs::metadata(base).unwrap().mtime() - 946_684_800;
    header[56..60].copy_from_slice(&(changed as u32).to_be_bytes());
    let name = base.file_name().unwrap().to_str().unwrap();
    for (at, unit) in name.encode_utf16().enumerate() {
        header[64 + 2 * at..][..2].copy_from_slice(&unit.to_be_bytes());
    }
    seal(&mut header, 36);
    let mut table = vec![0xff; 512];
    let mut data = Vec::new();
    for block in 0..blocks {
        let first = block * BLOCK / 512;
        let inside = written
            .iter()
            .filter(|at| (first..first + BLOCK / 512).contains(at));
        let mut image = vec![0; 512 + BLOCK];
        let mut any = false;
        for sector in inside.map(|at| at - first) {
            any = true;
            image[sector / 8] |= 0x80 >> (sector % 8);
            image[512 + sector * 512..][..512].fill(byte);
        }
        if any {
            let place = (2048 + data.len()) / 512;
            table[block * 4..block * 4 + 4].copy_from_slice(&(place as u32).to_be_bytes());
            data.extend(image);
        }
    }
    fs::write(
        child,
        [footer.clone(), header, table, data, footer].concat(),
    )
    .unwrap();
}

/// `base.vhd`, `a.vhd`, `b.vhd`: a chain; what the youngest reads as.
fn chain(bench: &Bench) -> Vec<u8> {
    let raw = bench.noise("disk.raw", 61, SIZE as u64);
    let base = bench.path("base.vhd");
    let options = "subformat=dynamic,force_size=on";
    let arguments = ["convert", "-f", "raw", "-O", "vpc", "-o", options];
    tool(
        "qemu-img",
        &[&arguments[..], &[text(&raw), text(&base)]].concat(),
    );
    let (a, b) = (bench.path("a.vhd"), bench.path("b.vhd"));
    let steps: [(&Path, &Path, &[usize], u8); 2] = [
        (&base, &a, &[0, 7, 4095, 9000], 0xAA),
        (&a, &b, &[7, 8, 4096, 12287], 0xBB),
    ];
    let mut disk = fs::read(&raw).unwrap();
    for (parent, child, sectors, byte) in steps {
        make_child(parent, child, sectors, byte);
        for sector in sectors {
            disk[sector * 512..][..512].fill(byte);
        }
    }
    disk
}

#[test]
fn a_child_is_backed_up_with_what_its_parents_hold() {
    let bench = Bench::new();
    if !have(&["qemu-img"]) {
        return;
    }
    let disk = chain(&bench);
    let point = bench.backup("m", &["b.vhd"]);
    let restored = |name: &str| {
        let back = bench.path(name);
        bench.expect(0, &["restore", "store", "m@latest", "--to", text(&back)]);
        fs::read(back.join("disk0.raw")).unwrap()
    };
    assert!(restored("back") == disk);
    let listed = bench.points();
    assert_eq!(listed[0]["disks"][0]["format"], "vhd-differencing");
    assert_eq!(point["warnings"].as_array().map(Vec::len), Some(0));

    // Parents that lie elsewhere are found where the caller says, and nowhere else.
    fs::create_dir(bench.path("elsewhere")).unwrap();
    for name in ["a.vhd", "base.vhd"] {
        fs::rename(bench.path(name), bench.path("elsewhere").join(name)).unwrap();
    }
    let refused = bench.expect(1, &["backup", "store", "--machine", "m", "b.vhd"]);
    assert!(
        refused.stderr.contains("--parent DIR"),
        "{}",
        refused.stderr
    );
    let arguments = ["backup", "store", "--machine", "m", "b.vhd", "--parent"];
    bench.expect(
        0,
        &[&arguments[..], &[text(&bench.path("elsewhere"))]].concat(),
    );
    assert!(restored("again") == disk);

    // A parent with another id is another disk.
    let base = bench.path("elsewhere/base.vhd");
    let mut bytes = fs::read(&base).unwrap();
    let end = bytes.len();
    for at in [0, end - 512] {
        bytes[at + 68] ^= 1;
        seal(&mut bytes[at..at + 512], 64);
    }
    fs::write(&base, bytes).unwrap();
    let refused = bench.expect(
        1,
        &[&arguments[..], &[text(&bench.path("elsewhere"))]].concat(),
    );
    for said in ["expected the id", "found", "base.vhd"] {
        assert!(refused.stderr.contains(said), "{}", refused.stderr);
    }
    assert_eq!(bench.points().len(), 2);
}

#[test]
fn a_child_is_mounted_with_what_its_parents_hold() {
    let bench = Bench::new();
    if !have(&["qemu-img"]) || !have_fuse() {
        return;
    }
    let disk = chain(&bench);
    let mounted = Mounted::new(&bench, "b.vhd");
    assert!(mounted.read("disks/disk0.raw") == disk);
    mounted.end();
    fs::create_dir(bench.path("elsewhere")).unwrap();
    fs::rename(bench.path("base.vhd"), bench.path("elsewhere/renamed.vhd")).unwrap();
    let folder = bench.path("elsewhere");
    let mounted = Mounted::with(&bench, "b.vhd", &["--parent", text(&folder)]);
    assert!(mounted.read("disks/disk0.raw") == disk);
    mounted.end();
    let mounted = Mounted::with(&bench, "b.vhd", &["--raw"]);
    assert!(mounted.read("disks/disk0.raw") == fs::read(bench.path("b.vhd")).unwrap());
    mounted.end();
    // A parent is not covered either.
    let over = ["mount", "b.vhd", text(&folder), "--parent", text(&folder)];
    let (status, answer) = bench.start(&over).end();
    assert_eq!(status.code(), Some(2), "{}", answer.stderr);
    assert!(answer.stderr.contains("would cover"), "{}", answer.stderr);
}

#[test]
fn a_child_is_served_with_what_its_parents_hold() {
    let bench = Bench::new();
    if !have(&["qemu-img"]) {
        return;
    }
    let disk = bench.path("whole.raw");
    fs::write(&disk, chain(&bench)).unwrap();
    fs::create_dir(bench.path("elsewhere")).unwrap();
    fs::rename(bench.path("base.vhd"), bench.path("elsewhere/renamed.vhd")).unwrap();
    let folder = bench.path("elsewhere");
    let child = bench.path("b.vhd");
    let cases: [(&[&str], &Path); 2] = [
        (&["b.vhd", "--parent", text(&folder)], &disk),
        (&["b.vhd", "--raw"], &child),
    ];
    for (arguments, expected) in cases {
        let served = Served::new(&bench, arguments);
        let compare = ["compare", "-f", "raw", "-F", "raw", text(expected)];
        tool("qemu-img", &[&compare[..], &[&served.uris[0]]].concat());
        served.end(0);
    }
}
