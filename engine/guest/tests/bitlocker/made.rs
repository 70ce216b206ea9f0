//! Volumes made here: every cipher, layout and protector, read by us, by libbde and by dislocker.

use crate::maker::*;
use crate::support::*;
use cairn_base::read_at::read_vec;
use cairn_base::{Kind, ReadAt, Result};
use cairn_guest::bitlocker::{BitLocker, State};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

const SIZE: usize = 3 << 20;

/// A volume of noise that begins as one of NTFS does.
fn plain() -> Vec<u8> {
    let mut bytes = noise(1, SIZE);
    bytes[KEPT.start as usize..KEPT.end as usize].fill(0);
    bytes[..3].copy_from_slice(b"\xeb\x52\x90");
    bytes[3..11].copy_from_slice(b"NTFS    ");
    bytes[11..13].copy_from_slice(&512u16.to_le_bytes());
    bytes[13] = 8;
    bytes[14..36].fill(0);
    bytes[40..48].copy_from_slice(&(SIZE as u64 / 512).to_le_bytes());
    bytes[48..56].copy_from_slice(&4u64.to_le_bytes());
    bytes[56..64].copy_from_slice(&MIRROR.to_le_bytes());
    bytes[510..512].copy_from_slice(b"\x55\xaa");
    bytes
}

fn shows(image: &[u8], given: &Given<'_>, plain: &[u8]) {
    let unlocked = unlock(Arc::new(image.to_vec()), given).unwrap();
    let device = unlocked.device();
    assert_eq!(device.size(), plain.len() as u64);
    assert!(all(&*device) == plain, "other bytes");
    // Whatever is asked for: across sectors and regions, and within them.
    for (start, end) in [
        (0, 1),
        (3, 700),
        (511, 513),
        (0x1fff, 0x2001),
        (0x3_ff01, 0x4_0010),
        (0x4_ff00, 0x5_0f00),
        (plain.len() - 5000, plain.len() - 3),
    ] {
        let read = read_vec(&*device, start as u64, end - start).unwrap();
        assert!(read == plain[start..end], "{start}..{end}");
    }
    let beyond = read_vec(&*device, plain.len() as u64 - 1, 2).unwrap_err();
    assert_eq!(beyond.kind(), Kind::Invalid);
}

/// Reads it by us and by the others.
#[track_caller]
fn everybody_reads(recipe: &Recipe, given: &Given<'_>, others: &[Other]) {
    let plain = plain();
    let image = make(recipe, &plain);
    shows(&image, given, &plain);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image");
    std::fs::write(&path, image).unwrap();
    for other in others {
        let (name, read) = match other {
            Other::Dislocker => ("dislocker", by_dislocker(&path, given, folder.path())),
            Other::Libbde => ("libbde", by_libbde(&path, given, folder.path())),
        };
        let Some(mut read) = read else { continue };
        assert_eq!(read.len(), plain.len(), "{name}");
        if recipe.looks == Looks::Vista {
            // dislocker 0.7.2 leaves the place of BitLocker's metadata where the mirror's belongs.
            read[56..64].copy_from_slice(&MIRROR.to_le_bytes());
        }
        let first = read.iter().zip(&plain).position(|(a, b)| a != b);
        assert_eq!(first, None, "{name} reads other bytes");
    }
}

#[derive(Clone, Copy)]
enum Other {
    Dislocker,
    Libbde,
}

const BOTH: &[Other] = &[Other::Dislocker, Other::Libbde];

#[test]
fn every_cipher_is_read_as_others_read_it() {
    for method in [0x8000, 0x8001, 0x8002, 0x8003, 0x8004, 0x8005] {
        println!("method {method:#x}");
        let recipe = Recipe::new(Looks::Windows7, method);
        // Versions of libbde up to 2019 take only half of the keys of AES-XTS 256, and say that they are too short.
        let others = if method == 0x8005 {
            &[Other::Dislocker]
        } else {
            BOTH
        };
        everybody_reads(&recipe, &Given::Password(PLAIN_PASSWORD), others);
    }
}

#[test]
fn large_sectors_are_read() {
    for method in [0x8001, 0x8002, 0x8004] {
        println!("method {method:#x}");
        let mut recipe = Recipe::new(Looks::Windows7, method);
        recipe.sector = 4096;
        everybody_reads(&recipe, &Given::Recovery(RECOVERY), &[Other::Dislocker]);
    }
}

#[test]
fn every_layout_is_read_as_others_read_it() {
    let password = Given::Password(PLAIN_PASSWORD);
    let recovery = Given::Recovery(RECOVERY);
    let mut vista = Recipe::new(Looks::Vista, 0x8000).protect(&[Protect::Tpm, Protect::Recovery]);
    // Versions of libbde up to 2019 refuse metadata that say, as Vista's do, that no sectors are kept elsewhere.
    everybody_reads(&vista, &recovery, &[]);
    vista.encrypted = SIZE as u64;
    everybody_reads(&vista, &recovery, &[Other::Dislocker]);
    let mut to_go = Recipe::new(Looks::ToGo, 0x8002);
    // It keeps much of the beginning elsewhere.
    to_go.head = 0x6_0000;
    everybody_reads(&to_go, &password, BOTH);
}

#[test]
fn every_protector_opens_the_volume() {
    let folder = tempfile::tempdir().unwrap();
    let file: PathBuf = folder.path().join("key.BEK");
    std::fs::write(&file, startup_key()).unwrap();
    let all = [
        Protect::Tpm,
        Protect::Startup,
        Protect::Recovery,
        Protect::Password(PLAIN_PASSWORD),
    ];
    let recipe = Recipe::new(Looks::Windows7, 0x8004).protect(&all);
    everybody_reads(&recipe, &Given::StartupKey(&file), BOTH);
    everybody_reads(&recipe, &Given::Recovery(RECOVERY), BOTH);
    everybody_reads(&recipe, &Given::Password(PLAIN_PASSWORD), BOTH);
    let unusual = recipe.clone().protect(&[Protect::Password(PASSWORD)]);
    everybody_reads(&unusual, &Given::Password(PASSWORD), &[Other::Libbde]);
    let suspended = recipe.protect(&[Protect::Tpm, Protect::Clear]);
    everybody_reads(&suspended, &Given::Nothing, &[Other::Dislocker]);
}

#[test]
fn digits_of_a_recovery_key_may_be_typed_in_any_way() {
    let recipe = Recipe::new(Looks::Windows7, 0x8002).protect(&[Protect::Recovery]);
    let image = make(&recipe, &plain());
    for typed in [RECOVERY.replace('-', " "), RECOVERY.replace('-', "")] {
        shows(&image, &Given::Recovery(&typed), &plain());
    }
}

#[test]
fn a_volume_that_is_partly_encrypted_is_read() {
    let mut recipe = Recipe::new(Looks::Windows7, 0x8004);
    recipe.state = 5;
    recipe.encrypted = 0x20_0000;
    everybody_reads(&recipe, &Given::Password(PLAIN_PASSWORD), &[Other::Libbde]);
    // Even so little that the beginning, which is kept elsewhere, is not encrypted.
    recipe.encrypted = 0x9_0000;
    everybody_reads(&recipe, &Given::Password(PLAIN_PASSWORD), &[]);
}

#[test]
fn what_is_encrypted_on_write_is_told_from_what_is_not() {
    let mut recipe = Recipe::new(Looks::OnWrite, 0x8004);
    recipe.state = 5;
    recipe.written = vec![0..0x3_0000, HEAD..HEAD + CHUNK, 0x20_0000..0x28_0000];
    everybody_reads(&recipe, &Given::Password(PLAIN_PASSWORD), &[]);
    let image = make(&recipe, &plain());
    let device = unlock(Arc::new(image), &Given::Recovery(RECOVERY)).unwrap();
    let info = BitLocker::open(Arc::new(make(&recipe, &plain())))
        .unwrap()
        .info();
    assert_eq!(info.state, State::Converting);
    // What lies in BitLocker's own areas is no data.
    let data = device.device().data_extents(0..u64::MAX).unwrap();
    assert_eq!(data.first().map(|range| range.start), Some(0));
    assert!(
        data.iter()
            .all(|range| range.end <= 0x18_2000 || range.start >= 0x18_6000)
    );
}

/// A device of which nothing but these ranges is data; the rest of it reads as zeros.
struct Holed(Vec<u8>, Vec<Range<u64>>);

impl ReadAt for Holed {
    fn size(&self) -> u64 {
        self.0.size()
    }
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.0.read_exact_at(offset, buffer)
    }
    fn data_extents(&self, range: Range<u64>) -> Result<Vec<Range<u64>>> {
        let clipped = self
            .1
            .iter()
            .map(|data| data.start.max(range.start)..data.end.min(range.end));
        Ok(clipped.filter(|data| !data.is_empty()).collect())
    }
}

/// Holes of an image are holes of what is plain, and of nothing that is encrypted: zeros decrypt to noise.
#[test]
fn holes_within_what_is_encrypted_are_no_holes() {
    let mut recipe = Recipe::new(Looks::Windows7, 0x8004).protect(&[Protect::Clear]);
    recipe.state = 5;
    recipe.encrypted = 0x20_0000;
    let mut image = make(&recipe, &plain());
    // Whatever was punched out of the image: encrypted, and plain.
    let holes = [0x1a_0000..0x1c_0000u64, 0x28_0000..0x2a_0000];
    holes
        .iter()
        .for_each(|hole| image[hole.start as usize..hole.end as usize].fill(0));
    let data = vec![0..0x1a_0000, 0x1c_0000..0x28_0000, 0x2a_0000..SIZE as u64];
    let device = unlock(Arc::new(Holed(image, data)), &Given::Nothing)
        .unwrap()
        .device();
    let shown = device.data_extents(0..SIZE as u64).unwrap();
    let expected = [
        0..METADATA[0],
        METADATA[0] + 0x1_0000..METADATA[1],
        METADATA[1] + 0x1_0000..METADATA[2],
        METADATA[2] + 0x1_0000..HEAD,
        HEAD + 0x2000..0x28_0000,
        0x2a_0000..SIZE as u64,
    ];
    assert_eq!(shown, expected);
    let hole = read_vec(&*device, 0x1a_0000, 0x2_0000).unwrap();
    assert!(hole.iter().any(|byte| *byte != 0));
    let mut end = 0;
    for range in shown
        .iter()
        .chain(std::iter::once(&(SIZE as u64..SIZE as u64)))
    {
        let between = read_vec(&*device, end, (range.start - end) as usize).unwrap();
        assert!(
            between.iter().all(|byte| *byte == 0),
            "data in a hole at {end}"
        );
        end = range.end;
    }
    let inside = device.data_extents(0x4_1000..0x5_1000).unwrap();
    assert_eq!(
        (inside.len(), inside.first()),
        (1, Some(&(0x5_0000..0x5_1000)))
    );
}

#[test]
fn many_threads_read_at_once() {
    let recipe = Recipe::new(Looks::Windows7, 0x8001).protect(&[Protect::Clear]);
    let plain = plain();
    let device = unlock(Arc::new(make(&recipe, &plain)), &Given::Nothing)
        .unwrap()
        .device();
    std::thread::scope(|scope| {
        for thread in 0..4usize {
            let (device, plain) = (&device, &plain);
            scope.spawn(move || {
                for step in 0..200 {
                    let at = (thread * 7919 + step * 10_007) % (SIZE - 9000);
                    let length = 1 + (step * 37 + thread) % 9000;
                    let read = read_vec(&**device, at as u64, length).unwrap();
                    assert!(read == plain[at..at + length], "{at} {length}");
                }
            });
        }
    });
}
