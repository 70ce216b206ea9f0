//! Files that were compressed with XPRESS and LZX by wimlib read back equal, by themselves and on a volume.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests may panic"
)]

mod ntfs_support;

use cairn_base::read_at::read_vec;
use cairn_base::{Kind, View};
use cairn_guest::ntfs::NtfsVolume;
use cairn_guest::ntfs::decoders::{Algorithm, WofStream};
use cairn_guest::{EntryKind, Volume};
use ntfs_support::made::*;
use ntfs_support::wim::*;
use ntfs_support::*;
use std::fs;
use std::ops::ControlFlow;
use std::sync::Arc;

fn algorithm(number: u32) -> Algorithm {
    Algorithm::parse(View::new(&point(number), "reparse point", 0)).unwrap()
}

fn text(length: usize) -> Vec<u8> {
    let lines = (0..).flat_map(|number: u32| format!("line {} of it\n", number % 777).into_bytes());
    lines.take(length).collect()
}

/// Contents of many kinds and sizes: each edge of a chunk of each algorithm.
fn contents() -> Vec<Vec<u8>> {
    let mut contents = vec![
        vec![0; 300_000],
        vec![0xE8; 70_000],
        noise(1, 150_001),
        program(400_000),
        fs::read("/bin/ls").unwrap_or_else(|_| program(90_000)),
        [
            noise(2, 40_000),
            text(100_000),
            vec![0; 50_000],
            noise(3, 40_000),
        ]
        .concat(),
    ];
    for chunk in [4096usize, 8192, 16384, 32768] {
        for length in [
            chunk - 1,
            chunk,
            chunk + 1,
            3 * chunk - 1,
            3 * chunk,
            3 * chunk + 1,
        ] {
            contents.push(text(length));
            contents.push(program(length));
        }
    }
    // Matches of every length and distance, and words of every width.
    for seed in 0..40u64 {
        let noise = noise(100 + seed, 60_000);
        let mut mixed: Vec<u8> = noise[..200].to_vec();
        for step in noise[200..].chunks_exact(4) {
            let back = 1 + (usize::from(step[0]) << (step[1] % 9)) % mixed.len();
            let length = match step[2] % 64 {
                0 => 900,
                1..4 => 280,
                _ => usize::from(step[2] % 24),
            };
            for _ in 0..length {
                mixed.push(mixed[mixed.len() - back]);
            }
            let kept = step[3] >> (seed % 8);
            mixed.push(kept);
            if mixed.len() > 100_000 {
                break;
            }
        }
        contents.push(mixed);
    }
    contents.extend((1..40).map(text));
    contents
}

#[test]
fn what_wimlib_compresses_reads_back_equal() {
    if !have_wimlib() {
        return;
    }
    let contents = contents();
    let compressed = compress(&contents);
    let mut smaller = 0;
    for (content, streams) in contents.iter().zip(compressed) {
        for (number, stream) in (0u32..).zip(streams) {
            smaller += usize::from(stream.len() < content.len());
            let size = content.len() as u64;
            let file = WofStream::new(Arc::new(stream), size, algorithm(number)).unwrap();
            let whole = read_vec(&file, 0, content.len()).unwrap();
            assert!(
                whole == *content,
                "{} bytes, algorithm {number}",
                content.len()
            );
            // In pieces that begin and end anywhere.
            let mut at = 0;
            for piece in content.chunks(5555) {
                assert!(read_vec(&file, at, piece.len()).unwrap() == piece);
                at += piece.len() as u64;
            }
            let half = content.len() / 2;
            assert!(read_vec(&file, half as u64, content.len() - half).unwrap() == content[half..]);
        }
    }
    assert!(smaller > 300, "{smaller}");
}

#[test]
fn content_of_4_gib_and_more_has_places_of_8_bytes() {
    if !have_wimlib() {
        return;
    }
    let special = [text(32_768), program(32_768), noise(7, 32_768)];
    let zeros = compress(&[vec![0; 32_768]]).remove(0)[1].clone();
    let streams = compress(&special);
    for (size, width) in [
        ((4u64 << 30) - 1, 4usize),
        (4 << 30, 8),
        ((5 << 30) + 77, 8),
    ] {
        let chunks = size.div_ceil(32_768);
        let (mut table, mut data) = (Vec::new(), Vec::new());
        let place_of = |chunk: u64| (chunk % 1000 == 500).then_some((chunk / 1000 % 3) as usize);
        for chunk in 0..chunks {
            if chunk > 0 {
                table.extend(&(data.len() as u64).to_le_bytes()[..width]);
            }
            let last = chunk + 1 == chunks;
            match place_of(chunk) {
                Some(which) if !last => data.extend(&streams[which][1]),
                // The last chunk is short: stored as it is.
                _ if last => data.extend(vec![3; (size - chunk * 32_768) as usize]),
                _ => data.extend(&zeros),
            }
        }
        table.extend(data);
        let file = WofStream::new(Arc::new(table), size, algorithm(1)).unwrap();
        for chunk in (499..chunks - 2).step_by(1000) {
            let read = read_vec(&file, chunk * 32_768 + 32_760, 32_776).unwrap();
            let which = place_of(chunk + 1).unwrap();
            assert!(
                read[..8] == [0; 8] && read[8..] == special[which],
                "{chunk} of {size}"
            );
        }
        assert_eq!(read_vec(&file, size - 1, 1).unwrap(), [3]);
    }
}

/// Contents, and files of them in one folder for each algorithm.
#[test]
fn compressed_files_of_a_volume_read_as_their_content() {
    if !have(&TOOLS) || !have(&["setfattr"]) || !have_wimlib() {
        return;
    }
    let contents: Vec<Vec<u8>> = contents().into_iter().step_by(5).collect();
    let compressed = compress(&contents);
    for cluster in ["512", "4096", "65536"] {
        let folder = tempfile::tempdir().unwrap();
        let image = make(folder.path(), 128 << 20, &["-c", cluster]);
        {
            let options = "streams_interface=windows";
            let Some(mount) = Mount::new(&image, folder.path(), options) else {
                return;
            };
            for (number, (name, _)) in (0u32..).zip(ALGORITHMS) {
                fs::create_dir(mount.0.join(name)).unwrap();
                for (at, content) in contents.iter().enumerate() {
                    let path = mount.0.join(name).join(format!("file {at}"));
                    let stream = &compressed[at][number as usize];
                    place(&path, content.len() as u64, stream, number);
                }
            }
        }
        let volume = NtfsVolume::open(FileDisk::open(&image)).unwrap();
        let items = walk(&volume, &mut |what, error| panic!("{what}: {error}"));
        for (number, (name, _)) in ALGORITHMS.iter().enumerate() {
            for (at, expected) in contents.iter().enumerate() {
                let path = format!("/{name}/file {at}");
                let item = &items[path.as_bytes()];
                let attributes = item.attributes.as_ref().unwrap();
                assert_eq!(item.kind, EntryKind::File, "{path}");
                assert_eq!(attributes.size, expected.len() as u64, "{path}");
                assert!(content(&volume, item).unwrap() == *expected, "{path}");
                let stream = &compressed[at][number];
                let rounded = (stream.len() as u64).next_multiple_of(cluster.parse().unwrap());
                assert!(
                    attributes.allocated == rounded || attributes.allocated == 0,
                    "{path}"
                );
                let streams = volume.streams(item.id).unwrap();
                let named: Vec<_> = streams.iter().map(|stream| &stream.name[..]).collect();
                assert_eq!(named, [&b"WofCompressedData"[..]], "{path}");
                // By its name it is what is stored.
                let raw = format!("{path}:WofCompressedData");
                assert!(content(&volume, &items[raw.as_bytes()]).unwrap() == *stream);
            }
        }
    }
}

#[test]
fn extents_tell_compressed_files_from_plain_ones() {
    if !have(&TOOLS) || !have(&["setfattr"]) || !have_wimlib() {
        return;
    }
    let content = program(100_000);
    let stream = compress(std::slice::from_ref(&content)).remove(0)[0].clone();
    let folder = tempfile::tempdir().unwrap();
    let image = make(folder.path(), 16 << 20, &[]);
    let extents = |name: &str| {
        let volume = NtfsVolume::open(FileDisk::open(&image)).unwrap();
        let id = volume
            .lookup(volume.root(), name.as_bytes())
            .unwrap()
            .unwrap()
            .id;
        let mut extents = Vec::new();
        volume
            .extents(id, &mut |extent| {
                extents.push(extent);
                ControlFlow::Continue(())
            })
            .unwrap();
        (volume.open(id), extents)
    };
    let change = |change: &dyn Fn(&std::path::Path)| {
        let mount = Mount::new(&image, folder.path(), "streams_interface=windows")?;
        change(&mount.0.join("file"));
        Some(())
    };
    if change(&|path| place(path, 100_000, &stream, 0)).is_none() {
        return;
    }
    let (file, packed) = extents("file");
    assert!(read_vec(&file.unwrap(), 0, content.len()).unwrap() == content);
    // The same bytes in the same places, once with another algorithm and once without a reparse point.
    change(&|path| set_reparse(path, &point(2))).unwrap();
    let (file, other) = extents("file");
    assert_eq!(
        read_vec(&file.unwrap(), 0, 9000).unwrap_err().kind(),
        Kind::Damaged
    );
    change(&|path| {
        run(
            "setfattr",
            &[
                "-h",
                "-x",
                "system.ntfs_reparse_data",
                path.to_str().unwrap(),
            ],
        );
    })
    .unwrap();
    let (file, plain) = extents("file");
    assert_eq!(read_vec(&file.unwrap(), 0, 9000).unwrap(), vec![0; 9000]);
    let places = |extents: &[cairn_guest::Extent]| {
        let places = extents.iter().map(|extent| extent.place.clone());
        places.collect::<Vec<_>>()
    };
    assert!(!packed.is_empty());
    assert_eq!(places(&packed), places(&other));
    assert_eq!(places(&packed), places(&plain));
    assert!(packed != other && packed != plain && other != plain);
}
