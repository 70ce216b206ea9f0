//! Seeds of what is written to: overlays, and conversations with a server of disks.

use crate::Seeds;

pub fn write(seeds: &Seeds) {
    overlay(seeds);
    nbd(seeds);
}

/// The map of an overlay that was written to, trimmed and flushed, more than once.
fn overlay(seeds: &Seeds) {
    let folder = tempfile::tempdir().unwrap();
    let (base, of) = cairn_fuzz::overlays::base();
    let overlay = cairn::Overlay::kept(base, folder.path(), &of).unwrap();
    let map = folder.path().join("0505050505050505-disk0.map");
    seeds.put("overlay", "new", &std::fs::read(&map).unwrap());
    for at in [0, 100_000] {
        overlay.write_at(at, &[7; 10_000]).unwrap();
        overlay.trim(at + 40_000..at + 80_000).unwrap();
        overlay.flush().unwrap();
    }
    seeds.put("overlay", "written", &std::fs::read(&map).unwrap());
}

/// Conversations of clients: of all options and commands, and of one that knows only the oldest way.
fn nbd(seeds: &Seeds) {
    let option = |number: u32, data: &[u8]| {
        let mut bytes = b"IHAVEOPT".to_vec();
        bytes.extend(number.to_be_bytes());
        bytes.extend((data.len() as u32).to_be_bytes());
        bytes.extend(data);
        bytes
    };
    let request = |flags: u16, command: u16, offset: u64, length: u32, data: &[u8]| {
        let mut bytes = 0x2560_9513u32.to_be_bytes().to_vec();
        bytes.extend(flags.to_be_bytes());
        bytes.extend(command.to_be_bytes());
        bytes.extend(7u64.to_be_bytes());
        bytes.extend(offset.to_be_bytes());
        bytes.extend(length.to_be_bytes());
        bytes.extend(data);
        bytes
    };
    let name = b"\0\0\0\x05disk1";
    let go = [&name[..], &[0, 3, 0, 0, 0, 1, 0, 2]].concat();
    let contexts = [&name[..], b"\0\0\0\x01\0\0\0\x0fbase:allocation"].concat();
    let new = [
        3u32.to_be_bytes().to_vec(),
        option(3, b""),
        option(8, b""),
        option(9, &contexts),
        option(10, &contexts),
        option(6, &go),
        option(7, &go),
        request(0, 1, 5000, 4, b"abcd"),
        request(4, 0, 4096, 4096, b""),
        request(0, 0, 0, 60_000, b""),
        request(1, 6, 0, 8192, b""),
        request(1, 4, 20_000, 40_000, b""),
        request(0, 7, 0, 100_000, b""),
        request(8, 7, 0, 100_000, b""),
        request(0, 5, 0, 100_000, b""),
        request(0, 3, 0, 0, b""),
        request(0, 2, 0, 0, b""),
    ];
    seeds.put("nbd", "new", &new.concat());
    let old = [
        1u32.to_be_bytes().to_vec(),
        option(1, b"disk0"),
        request(0, 0, 10, 1000, b""),
        request(0, 1, 10, 4, b"abcd"),
        request(0, 2, 0, 0, b""),
    ];
    seeds.put("nbd", "old", &old.concat());
    let politely = [1u32.to_be_bytes().to_vec(), option(5, b""), option(2, b"")];
    seeds.put("nbd", "politely", &politely.concat());
}
