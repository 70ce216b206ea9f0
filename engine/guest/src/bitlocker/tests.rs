//! Test vectors of others, and that nothing of a file system is lost on an unlocked volume.

use super::cipher::SectorCipher;
use super::header::{Header, Layout};
use super::stretch::{of_password, of_recovery_password, stretched};
use cairn_base::Kind;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex
        .chars()
        .filter_map(|digit| digit.to_digit(16))
        .map(|digit| digit as u8)
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

/// IEEE 1619-2007, annex B, vectors 1, 2 and 3: data units of 32 bytes.
#[test]
fn xts_is_that_of_the_standard() {
    let vectors = [
        (
            "00000000000000000000000000000000 00000000000000000000000000000000",
            0u64,
            "0000000000000000000000000000000000000000000000000000000000000000",
            "917cf69ebd68b2ec9b9fe9a3eadda692cd43d2f59598ed858c02c2652fbf922e",
        ),
        (
            "11111111111111111111111111111111 22222222222222222222222222222222",
            0x33_3333_3333,
            "4444444444444444444444444444444444444444444444444444444444444444",
            "c454185e6a16936e39334038acef838bfb186fff7480adc4289382ecd6d394f0",
        ),
        (
            "fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0 22222222222222222222222222222222",
            0x33_3333_3333,
            "4444444444444444444444444444444444444444444444444444444444444444",
            "af85336b597afc1a900b2eb21ec949d292df4c047e0b21532186a5971a227a89",
        ),
    ];
    for (key, number, plain, encrypted) in vectors {
        let cipher = SectorCipher::new(0x8004, &bytes(key), 32).unwrap();
        let mut data = bytes(encrypted);
        cipher.decrypt(number * 32, &mut data);
        assert_eq!(data, bytes(plain));
    }
}

#[test]
fn a_key_that_is_too_short_is_refused() {
    for (method, length) in [(0x8000, 47), (0x8002, 15), (0x8003, 31), (0x8005, 63)] {
        let error = SectorCipher::new(method, &vec![1; length], 512)
            .err()
            .unwrap();
        assert_eq!(error.kind(), Kind::Damaged, "{method:#x}");
        assert!(SectorCipher::new(method, &[1; 64], 512).is_ok());
    }
    let unknown = SectorCipher::new(0x8006, &[1; 64], 512).err().unwrap();
    assert_eq!(unknown.kind(), Kind::Unsupported);
}

/// Another user key follows from another password, salt or way of typing; the same from the same.
#[test]
fn stretching_follows_from_all_it_is_given() {
    let never = || false;
    let first = stretched(&of_password("a"), &[1; 16], &never).unwrap();
    assert_eq!(
        stretched(&of_password("a"), &[1; 16], &never).unwrap(),
        first
    );
    assert_ne!(
        stretched(&of_password("b"), &[1; 16], &never).unwrap(),
        first
    );
    assert_ne!(
        stretched(&of_password("a"), &[2; 16], &never).unwrap(),
        first
    );
    let typed = "471207-278498-422125-177177-561902-537405-468006-693451";
    let recovery = of_recovery_password(typed).unwrap();
    assert_eq!(
        of_recovery_password(&typed.replace('-', "")).unwrap(),
        recovery
    );
    let stop = || true;
    let stopped = stretched(&recovery, &[1; 16], &stop).unwrap_err();
    assert_eq!(stopped.kind(), Kind::Interrupted);
}

#[test]
fn clusters_larger_than_a_byte_tells_are_counted() {
    let mut head = vec![0; 512];
    head[3..11].copy_from_slice(b"-FVE-FS-");
    head[11..13].copy_from_slice(&512u16.to_le_bytes());
    head[56] = 2;
    for (count, cluster) in [(1, 512), (128, 1 << 16), (0xf8, 512 << 8), (0xf4, 2 << 20)] {
        head[13] = count;
        let header = Header::parse(&head).unwrap();
        assert_eq!(header.layout, Layout::Vista);
        assert_eq!(header.cluster_size, cluster);
        assert_eq!(header.metadata, [cluster * 2]);
    }
    for sector in [0u16, 1, 513, 8192] {
        head[11..13].copy_from_slice(&sector.to_le_bytes());
        assert_eq!(Header::parse(&head).unwrap_err().kind(), Kind::Damaged);
    }
}

/// A method of the trait that an unlocked volume leaves to its default would lose what the file system knows.
#[test]
fn an_unlocked_volume_passes_every_method_on() {
    let (_, of_trait) = include_str!("../volume.rs")
        .split_once("pub trait Volume")
        .unwrap();
    let of_unlocked = include_str!("unlocked.rs");
    let names = of_trait.lines().filter_map(|line| {
        let (name, rest) = line.strip_prefix("    fn ")?.split_once('(')?;
        (rest.starts_with("&self") || rest.is_empty()).then_some(name)
    });
    let names: Vec<&str> = names.collect();
    assert!(names.len() >= 13, "{names:?}");
    for name in names {
        let passed_on = of_unlocked.contains(&format!("fn {name}("))
            && of_unlocked.contains(&format!(".{name}("));
        assert!(
            passed_on || name == "info",
            "UnlockedVolume does not pass `{name}` on"
        );
    }
}
