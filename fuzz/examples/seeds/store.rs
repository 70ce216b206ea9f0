//! Seeds of what lies in a store.

use crate::Seeds;
use cairn_base::{ChunkId, Folder, PackId, Time};
use cairn_fuzz::memory::Memory;
use cairn_fuzz::pieces::Pieces;
use cairn_store::codec::{self, Record};
use cairn_store::damage::DamageList;
use cairn_store::frame::Compressor;
use cairn_store::header::Header;
use cairn_store::index::place::{Entry, Place};
use cairn_store::index::table::PackRow;
use cairn_store::index::write::write_segment;
use cairn_store::map::node::Node;
use cairn_store::map::{Extent, Leaf, REGION};
use cairn_store::pack::toc::{Toc, TocChunk, TocFrame};
use cairn_store::pack::{Footer, PackKind, head::Head};
use cairn_store::point::{BackupStats, Exclusion, ImageState, Origin, ToldBy};
use cairn_store::policy::Policy;
use cairn_store::session::{Manifest, Root, SessionKind, SessionRecord};
use cairn_store::state::{Condemned, SegmentRow, State};
use cairn_store::{Consistency, CutParameters, DiskRecord, ImageFacts, PointRecord, Proofs};

pub fn write(seeds: &Seeds) {
    records(seeds);
    by_hand(seeds);
    retention(seeds);
    packs(seeds);
    parity(seeds);
    maps(seeds);
    segments(seeds);
    texts(seeds);
    for (name, seed) in [
        ("a", 1u64),
        ("b", 2),
        ("c", 3),
        ("d", 4),
        ("e", 5),
        ("f", 6),
    ] {
        let mut bytes = vec![0; 300];
        blake3::Hasher::new()
            .update(&seed.to_le_bytes())
            .finalize_xof()
            .fill(&mut bytes);
        seeds.put("operations", name, &bytes);
    }
    seeds.put("operations", "plain", &plain_run());
}

/// One machine: a disk, backups in every way, and looks at them.
fn plain_run() -> Vec<u8> {
    let change: &[u8] = &[0, 0, 6, 1, 2, 0, 0, 90, 0, 0];
    let grow: &[u8] = &[0, 0, 7, 200, 90, 1, 0, 0, 0, 0];
    let (full, part, two) = (&[5, 0, 0][..], &[7, 0, 0][..], &[10, 0, 1][..]);
    let (verify, reopen, read) = (&[12, 0, 0][..], &[13, 0][..], &[14, 0, 0][..]);
    let run = [
        &[0][..],
        grow,
        change,
        full,
        verify,
        change,
        part,
        read,
        two,
        reopen,
        change,
        part,
        verify,
        two,
    ];
    run.concat()
}

fn payload<R: Record>(record: &R) -> Vec<u8> {
    let sealed = codec::seal(record).unwrap();
    sealed[24..sealed.len() - 16].to_vec()
}

fn records(seeds: &Seeds) {
    for (name, cut) in [
        ("fastcdc", CutParameters::default()),
        ("fixed", CutParameters::Fixed { size: 65536 }),
    ] {
        let header = Header {
            store: [1; 16],
            read_flags: 0,
            write_flags: 0,
            created: 1_800_000_000,
            cut,
            id_key: [2; 32],
            parity: 3,
        };
        seeds.put("header", name, &payload(&header));
        seeds.put(
            "header",
            &format!("{name}_file"),
            &codec::seal(&header).unwrap(),
        );
    }
    let mut state = State::default();
    seeds.put("state", "empty", &payload(&state));
    state.generation = 7;
    state.segments.extend([1, 2].map(|n| SegmentRow {
        id: [n; 16],
        entries: 10,
        length: 5000,
    }));
    state.replaced.extend([[3; 16], [4; 16]]);
    state.condemned.push(Condemned {
        pack: [5; 16],
        generation: 6,
    });
    seeds.put("state", "full", &payload(&state));
    seeds.put("point", "two_disks", &payload(&point()));
    seeds.put("point", "file", &codec::seal(&point()).unwrap());
    for (name, kind) in [("reads", SessionKind::Read), ("writes", SessionKind::Write)] {
        let session = SessionRecord {
            kind,
            generation: 5,
            points: vec![[1; 32], [2; 32]],
            roots: vec![Root {
                root: [3; 32],
                size: 5 << 20,
            }],
            packs: vec![[4; 16]],
            process: 77,
            host: "a host".to_string(),
            boot: "0b5e7a".to_string(),
            began: 1_800_000_000,
            command: "cairn backup".to_string(),
        };
        seeds.put("session", name, &payload(&session));
    }
    let manifest = Manifest {
        packs: vec![[1; 16], [2; 16]],
        segment: [3; 16],
    };
    seeds.put("manifest", "two_packs", &payload(&manifest));
}

/// Lists of two places and a pack, and a name: records that only their own modules can make.
fn by_hand(seeds: &Seeds) {
    let folder = Memory::default();
    folder.create_folder("locks").unwrap();
    let mut list = DamageList::default();
    list.add(([1; 16], PackId([2; 16])));
    list.add(([3; 16], PackId([4; 16])));
    list.add_pack(PackId([2; 16]));
    list.write(&folder).unwrap();
    let bytes = folder.get("damage").unwrap();
    seeds.put("damage", "two_places", &bytes[24..bytes.len() - 16]);
    let mut proofs = Proofs::default();
    proofs.prove(PackId([2; 16]), Time::from_seconds(1_800_000_000), true);
    proofs.prove(PackId([3; 16]), Time::from_seconds(1_800_000_100), false);
    proofs.write(&folder).unwrap();
    let bytes = folder.get("proofs").unwrap();
    for (name, now) in [("later", 1_800_000_200i64), ("between", 1_800_000_050)] {
        let times = [now.to_le_bytes(), 1_799_000_000i64.to_le_bytes()].concat();
        let seed = [&times[..], &bytes[24..bytes.len() - 16]].concat();
        seeds.put("proofs", name, &seed);
    }
    for (name, text) in [
        ("two_machines", "web01\0disk0\0db\0C\0Web01\0"),
        (
            "other_letters",
            "B\u{fc}ro Server\0B\u{dc}RO SERVER\0\u{130}\0i\u{307}\0",
        ),
        ("no_names", ".x\0a/b\0a@b\0a"),
    ] {
        seeds.put("catalog", name, text.as_bytes());
    }
    for name in ["m", "M"] {
        seeds.put(
            "machine_name",
            name,
            &[&1u64.to_le_bytes()[..], name.as_bytes()].concat(),
        );
    }
}

/// What is forgotten and pinned, and for how long points are immutable.
fn retention(seeds: &Seeds) {
    let number = |n: u64| n.to_le_bytes().to_vec();
    let ranges = [2, 1, 3, 5, 5].map(number).concat();
    let until = [&[7; 32][..], &[1], &number(1_900_000_000), &number(1), b"x"].concat();
    let ever = [&[9; 32][..], &[0], &number(0)].concat();
    let pins = [number(2), until, ever].concat();
    let both = [ranges, pins].concat();
    seeds.put("retention", "two_of_each", &both);
    seeds.put("retention", "nothing", &[0; 16]);
    let policy = Policy {
        immutable: 30 * 86_400,
    };
    seeds.put("policy", "thirty_days", &payload(&policy));
}

fn point() -> PointRecord {
    let disk = |name: &str, size| DiskRecord {
        name: name.to_string(),
        size,
        root: [9; 32],
        image: ImageFacts {
            format: "vhd dynamic".to_string(),
            path: "/a/b.vhd".to_string(),
            identity: "id".to_string(),
            sector_size: 512,
            file_size: 1000,
            modified_ns: -5,
        },
        excluded: vec![Exclusion {
            offset: 1,
            length: 2,
            reason: "free blocks".to_string(),
        }],
        mixed: true,
    };
    PointRecord {
        machine: "a machine".to_string(),
        sequence: 3,
        previous: 0,
        seconds: 1_800_000_000,
        import: true,
        made: 1_800_000_050,
        base: Some([7; 32]),
        consistency: Consistency::Frozen,
        disks: vec![disk("disk0", 5 << 30), disk("other", 1)],
        stats: BackupStats::default(),
        warnings: vec!["a warning".to_string()],
        host: "host".to_string(),
        program: "cairn".to_string(),
        origins: vec![
            Origin {
                told_by: ToldBy::Images,
                unchanged: 4 << 30,
                images: vec![ImageState {
                    data_id: [1; 16],
                    write_id: [2; 16],
                    file_size: 1000,
                    modified_ns: -5,
                    changed_ns: 6,
                }],
            },
            Origin::default(),
        ],
    }
}

fn packs(seeds: &Seeds) {
    let head = Head {
        kind: PackKind::Map,
        pack: PackId([1; 16]),
        store: [2; 16],
    };
    let with_length = |length: u64, bytes: &[u8]| [&length.to_le_bytes()[..], bytes].concat();
    seeds.put(
        "pack_ends",
        "header",
        &with_length(500, &head.encode()[..48]),
    );
    let footer = Footer {
        kind: PackKind::Data,
        pack: head.pack,
        store: head.store,
        toc_offset: 64,
        toc_length: 100,
        toc_checksum: [3; 16],
        parity_offset: 164,
        parity_length: 50,
        percent: 3,
        length: 164 + 50 + 128,
    };
    seeds.put(
        "pack_ends",
        "footer",
        &with_length(footer.length, &footer.encode()[..112]),
    );
    let frame = |offset, raw, chunks| TocFrame {
        offset,
        stored: 10,
        plain: raw == 10,
        raw,
        chunks,
        tag: [4; 16],
    };
    let chunk = |n, length| TocChunk {
        id: ChunkId([n; 32]),
        length,
    };
    let toc = Toc {
        frames: vec![frame(64, 10, 1), frame(74, 30, 2)],
        chunks: vec![chunk(1, 10), chunk(2, 20), chunk(3, 10)],
    };
    seeds.put("pack_toc", "three_chunks", &with_length(84, &toc.encode()));
    seeds.put(
        "pack_toc",
        "empty",
        &with_length(64, &Toc::default().encode()),
    );

    let text: Vec<u8> = b"the quick brown fox ".repeat(200);
    let parts = [&text[..64 * 20], &text[64 * 20..64 * 30]];
    let mut compressor = Compressor::new(3).unwrap();
    let stored = compressor.compress(&parts).unwrap().unwrap().to_vec();
    let length = (stored.len() as u16).to_le_bytes();
    let compressed = [&[0, 2, 20, 10][..], &length, &stored].concat();
    let plain = [&[1, 1, 2][..], &128u16.to_le_bytes(), &text[..128]].concat();
    let map = [&[5, 1, 1][..], &64u16.to_le_bytes(), &text[..64]].concat();
    seeds.put("pack", "data", &[&[0][..], &compressed, &plain].concat());
    seeds.put("pack", "map", &[&[1][..], &map].concat());
    let wanted = [((64 * 30) & 255) as u8, ((64 * 30) >> 8) as u8, 0];
    seeds.put("frame", "two_chunks", &[&wanted[..], &stored].concat());
    seeds.put(
        "frame",
        "no_frame",
        &[&[5, 0, 0][..], &text[..300]].concat(),
    );
}

/// Damage to packs with parity, as the target reads it: kind, place, value.
fn parity(seeds: &Seeds) {
    let middle = [0, 0, 0x80];
    let edit = |kind: u8, place: [u8; 3], value: u8| {
        let [a, b, c] = place;
        [kind, a, b, c, value]
    };
    for number in 0..8u8 {
        let one = edit(0, [0, 0, 0x20], 1);
        seeds.put(
            "parity",
            &format!("a_bit_{number}"),
            &[&[number][..], &one].concat(),
        );
    }
    for (name, number, edits) in [
        ("a_sector", 4, vec![edit(1, middle, 0xee)]),
        ("many_sectors", 5, vec![edit(2, [0, 0, 0x10], 5)]),
        ("cut", 4, vec![edit(3, [0, 0, 0xf0], 0)]),
        ("longer", 3, vec![edit(4, middle, 9)]),
        ("swapped", 4, vec![edit(5, middle, 1)]),
        ("nothing", 2, vec![]),
    ] {
        seeds.put("parity", name, &[&[number][..], &edits.concat()].concat());
    }
    let mut numbers = [0; 21];
    let right = [&[3][..], &edit(6, middle, 0), &numbers].concat();
    seeds.put("parity", "footer_as_it_was", &right);
    numbers[8] = 64;
    numbers[20] = 1;
    let wrong = [
        &[3][..],
        &edit(6, middle, 0),
        &numbers,
        &edit(6, middle, 1),
        &numbers,
    ];
    seeds.put("parity", "footer_of_another_shape", &wrong.concat());
    let forged = [
        &[4][..],
        &edit(0, [0, 0, 0x20], 1),
        &edit(7, [0, 0, 0x20], 0),
        &[0; 4],
    ];
    seeds.put("parity", "forged_sum", &forged.concat());
    let other = [&[4][..], &edit(7, middle, 1), &[1, 2, 3, 4]];
    seeds.put("parity", "other_sum", &other.concat());
}

fn maps(seeds: &Seeds) {
    let with_length =
        |length: u64, leaf: &Leaf| [&(length as u32).to_le_bytes()[..], &leaf.encode()].concat();
    let extent = |length, chunk: Option<u8>| Extent {
        length,
        chunk: chunk.map(|n| ChunkId([n; 32])),
    };
    let leaf = Leaf {
        extents: vec![
            extent(100_000, Some(1)),
            extent(20_000, Some(2)),
            extent(65_536, None),
            extent(5, Some(3)),
        ],
    };
    seeds.put("leaf", "mixed", &with_length(leaf.length(), &leaf));
    seeds.put("leaf", "hole", &with_length(REGION, &Leaf::hole(REGION)));
    let id = |n| ChunkId([n; 32]);
    seeds.put(
        "node",
        "three",
        &Node::new(vec![id(1), ChunkId::NULL, id(2)]).encode(),
    );
}

fn segments(seeds: &Seeds) {
    let packs = [8, 7].map(|n| PackRow {
        id: PackId([n; 16]),
        length: 1000,
        kind: PackKind::Data,
    });
    for (name, count) in [("empty", 0u64), ("one", 1), ("some", 200)] {
        let entries = (0..count).map(|number| {
            let place = Place {
                pack: packs[0].id,
                offset: 64,
                stored: 100,
                plain: false,
                at: number as u32,
                length: 9,
            };
            let mut prefix = [0; 16];
            prefix[..8].copy_from_slice(&number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
            Entry::new(prefix, (number % 2) as u32, &place)
        });
        let folder = Memory::default();
        folder.create_folder("s").unwrap();
        let written = write_segment(&folder, "s", [5; 16], &packs, entries.collect()).unwrap();
        let bytes = folder.get(&written.path).unwrap();
        for flags in [0, 1] {
            let seed = [&[flags][..], &Pieces::write(&bytes)].concat();
            seeds.put("segment", &format!("{name}_{flags}"), &seed);
        }
    }
    let some: Vec<u8> = (0..=255).collect();
    seeds.put(
        "segment_made",
        "one_pack",
        &[&[0][..], &some[..60]].concat(),
    );
    seeds.put(
        "segment_made",
        "many_packs",
        &[&[255][..], &some.repeat(3)].concat(),
    );
}

fn texts(seeds: &Seeds) {
    let size = [0, 0, 0, 1, 0];
    for (name, text) in [
        (
            "plain",
            r#"[{"start": 4096, "length": 10}, {"start": 0, "length": 5, "zero": true}]"#,
        ),
        ("empty", "[]"),
        (
            "qemu",
            r#"[{ "start": 0, "length": 1000, "depth": 1, "present": true, "zero": false, "data": true, "offset": 0},
{ "start": 1000, "length": 24, "depth": 0, "present": true, "zero": true, "data": false}]"#,
        ),
        (
            "bitmap",
            r#"[{ "start": 0, "length": 9, "depth": 0, "present": false, "zero": false}]"#,
        ),
    ] {
        seeds.put("changes", name, &[&size[..], text.as_bytes()].concat());
    }
    let id = "ab".repeat(32);
    for (name, text) in [
        (
            "point_file",
            format!("0000000007-1800000000i-b5d793e2-{id}"),
        ),
        ("latest", "a machine@latest".to_string()),
        ("time", "m@2026-11-20T02-00-00Z".to_string()),
        ("prefix", "abcdef".to_string()),
    ] {
        seeds.put("names", name, text.as_bytes());
    }
}
