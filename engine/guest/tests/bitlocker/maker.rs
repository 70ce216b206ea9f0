//! Encrypted volumes, made by code that shares nothing with the reader: the ciphers run the other way, and the metadata are written as the format's description says. That it
//! writes what it should is seen by programs of others that read them.

#[path = "encrypt.rs"]
mod encrypt;
#[path = "map.rs"]
mod map_of_writes;

use aes::Aes256;
use ccm::consts::{U12, U16};
use ccm::{AeadInOut, Ccm, KeyInit};
use encrypt::Cipher;
pub use map_of_writes::{Map, Record};
use sha2::{Digest, Sha256};
use std::ops::Range;

pub const PASSWORD: &str = "Grüße, 𝄞 and password12!@";
pub const PLAIN_PASSWORD: &str = "password12!@";
pub const RECOVERY: &str = "471207-278498-422125-177177-561902-537405-468006-693451";

/// How the volume header looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Looks {
    Vista,
    Windows7,
    ToGo,
    OnWrite,
}

/// A key protector.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protect {
    Clear,
    Tpm,
    TpmStartup,
    Startup,
    Recovery,
    Password(&'static str),
}

/// How a volume is made.
#[derive(Clone)]
pub struct Recipe {
    pub looks: Looks,
    pub method: u16,
    pub sector: usize,
    pub protectors: Vec<Protect>,
    pub state: u16,
    /// So many bytes are encrypted; 0: all.
    pub encrypted: u64,
    /// Bytes of the beginning that are kept elsewhere.
    pub head: u64,
    /// Ranges that are encrypted on write.
    pub written: Vec<Range<u64>>,
    /// What is added to all places of BitLocker's own.
    pub at: u64,
    /// What is added to the nonce of each copy of the metadata.
    pub nonces: [u32; 3],
}

impl Recipe {
    pub fn new(looks: Looks, method: u16) -> Recipe {
        Recipe {
            looks,
            method,
            sector: 512,
            protectors: vec![Protect::Password(PLAIN_PASSWORD), Protect::Recovery],
            state: 4,
            encrypted: 0,
            head: 0x2000,
            written: Vec::new(),
            at: 0,
            nonces: [0; 3],
        }
    }

    /// Where the copies of the metadata lie.
    pub fn metadata(&self) -> [u64; 3] {
        METADATA.map(|place| place + self.at)
    }

    /// Where the volume's beginning is kept.
    pub fn kept(&self) -> u64 {
        HEAD + self.at
    }

    pub fn protect(mut self, protectors: &[Protect]) -> Recipe {
        self.protectors = protectors.to_vec();
        self
    }
}

/// Where the copies of the metadata lie, and the beginning of the volume.
pub const METADATA: [u64; 3] = [0x4_0000, 0x8_0000, 0xc_0000];
pub const HEAD: u64 = 0x10_0000;
/// Where it is told what is encrypted on write, and the bitmap.
const TABLE: [u64; 2] = [0x18_0000, 0x18_1000];
const BITMAP: u64 = 0x18_2000;
const LOG: u64 = 0x18_4000;
const LOG_SIZE: u64 = 0x2000;
pub const CHUNK: u64 = 0x1_0000;
/// The bytes that must be zeros in what is encrypted.
pub const KEPT: Range<u64> = 0x4_0000..0x18_6000;

pub fn id_of(protect: Protect) -> [u8; 16] {
    let number = match protect {
        Protect::Clear => 1,
        Protect::Tpm => 2,
        Protect::Startup => 3,
        Protect::Recovery => 4,
        Protect::Password(_) => 5,
        Protect::TpmStartup => 6,
    };
    let mut id: [u8; 16] = std::array::from_fn(|at| at as u8 * 16 + number);
    id[0] = number;
    id
}

/// Bytes without order that are always the same for a seed, none of them a file system.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2) + 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..length).map(|_| next()).collect()
}

fn key(seed: u64) -> [u8; 32] {
    noise(seed, 32).try_into().unwrap()
}

fn entry(role: u16, kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len() + 8).unwrap();
    let head = [length, role, kind, 1].map(u16::to_le_bytes).concat();
    [&head, value].concat()
}

fn key_entry(method: u16, key: &[u8]) -> Vec<u8> {
    entry(0, 1, &[&u32::from(method).to_le_bytes()[..], key].concat())
}

/// The value of an entry with an encrypted key.
fn sealed(with: &[u8; 32], number: u32, plain: &[u8]) -> Vec<u8> {
    let time = 0x01d5_3236_6fba_49c0u64.to_le_bytes();
    let nonce: [u8; 12] = [&time[..], &number.to_le_bytes()]
        .concat()
        .try_into()
        .unwrap();
    let cipher = Ccm::<Aes256, U16, U12>::new(with.into());
    let mut data = plain.to_vec();
    let mac = cipher
        .encrypt_inout_detached((&nonce).into(), &[], data.as_mut_slice().into())
        .unwrap();
    [&nonce[..], &mac[..], &data].concat()
}

fn sha(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

fn stretch(initial: [u8; 32], salt: [u8; 16]) -> [u8; 32] {
    let mut last = [0; 32];
    for round in 0u64..0x10_0000 {
        last = sha(&[&last[..], &initial, &salt, &round.to_le_bytes()].concat());
    }
    last
}

fn protector(protect: Protect, master: &[u8; 32], number: u32) -> Vec<u8> {
    let salt: [u8; 16] = noise(77 + u64::from(number), 16).try_into().unwrap();
    let (kind, outer, mut properties) = match protect {
        Protect::Clear => (0u16, key(40), key_entry(0x2000, &key(40))),
        Protect::Tpm => (0x100, key(41), entry(0, 6, &noise(42, 100))),
        Protect::TpmStartup => (0x300, key(41), entry(0, 6, &noise(42, 100))),
        Protect::Startup => {
            // Which kind of key it wants.
            let wants = [&5u32.to_le_bytes()[..], &noise(43, 0)].concat();
            (0x200, key(44), entry(0, 4, &wants))
        }
        Protect::Recovery => {
            let groups = RECOVERY
                .split('-')
                .map(|group| group.parse::<u32>().unwrap());
            let bytes: Vec<u8> = groups
                .flat_map(|group| u16::try_from(group / 11).unwrap().to_le_bytes())
                .collect();
            (0x800, stretch(sha(&bytes), salt), Vec::new())
        }
        Protect::Password(text) => {
            let units: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
            (0x2000, stretch(sha(&sha(&units)), salt), Vec::new())
        }
    };
    if matches!(protect, Protect::Recovery | Protect::Password(_)) {
        let method = if kind == 0x800 { 0x1000u32 } else { 0x1001 };
        let inner = entry(
            0,
            5,
            &sealed(master, number + 100, &key_entry(0x2002, &outer)),
        );
        properties = entry(0, 3, &[&method.to_le_bytes()[..], &salt, &inner].concat());
    }
    if !matches!(protect, Protect::Tpm | Protect::TpmStartup) {
        let master = key_entry(0x2003, master);
        properties.extend(entry(0, 5, &sealed(&outer, number, &master)));
    }
    let time = 0x01d5_3236_6fba_49c0u64.to_le_bytes();
    let head = [0u16.to_le_bytes(), kind.to_le_bytes()].concat();
    entry(
        2,
        8,
        &[&id_of(protect)[..], &time, &head, &properties].concat(),
    )
}

/// A startup key file for the protector.
pub fn startup_key() -> Vec<u8> {
    startup_key_of(Protect::Startup)
}

/// A startup key file for a protector that wants one.
pub fn startup_key_of(protect: Protect) -> Vec<u8> {
    let inner = key_entry(0x2002, &key(44));
    let time = 0x01d5_3236_6fba_49c0u64.to_le_bytes();
    let external = [&id_of(protect)[..], &time, &inner].concat();
    dataset(&entry(6, 9, &external), id_of(protect), 0, 1)
}

/// The head of entries, and they.
fn dataset(entries: &[u8], id: [u8; 16], method: u16, nonce: u32) -> Vec<u8> {
    let length = u32::try_from(entries.len() + 48).unwrap();
    let mut set: Vec<u8> = [length, 1, 48, length].map(u32::to_le_bytes).concat();
    set.extend(id);
    set.extend(nonce.to_le_bytes());
    set.extend([method, method].map(u16::to_le_bytes).concat());
    set.extend(0x01d5_3236_6fba_49c0u64.to_le_bytes());
    set.extend(entries);
    set
}

/// The keys of the sectors as the metadata have them.
fn sector_keys(method: u16) -> Vec<u8> {
    let bytes = match method {
        0x8000 | 0x8001 => 64,
        0x8002 => 16,
        0x8003 | 0x8004 => 32,
        _ => 64,
    };
    noise(4711, bytes)
}

fn metadata(recipe: &Recipe, size: u64, number: usize) -> Vec<u8> {
    let master = key(99);
    let version: u16 = if recipe.looks == Looks::Vista { 1 } else { 2 };
    let text: Vec<u8> = "MACHINE C: 11/22/2026\0"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let mut entries = entry(7, 2, &text);
    for (number, protect) in (2..).zip(&recipe.protectors) {
        entries.extend(protector(*protect, &master, number * 2));
    }
    let volume_key = key_entry(recipe.method, &sector_keys(recipe.method));
    entries.extend(entry(3, 5, &sealed(&master, 50, &volume_key)));
    if version == 2 {
        entries.extend(entry(
            15,
            15,
            &[recipe.kept(), recipe.head].map(u64::to_le_bytes).concat(),
        ));
    }
    let nonce = 60 + recipe.nonces[number];
    let set = dataset(&entries, [0xab; 16], recipe.method, nonce);
    let unit = if version == 1 { 1 } else { 16 };
    let length = (64 + set.len()).next_multiple_of(16);
    let mut block = b"-FVE-FS-".to_vec();
    let stored = u16::try_from(length / unit).unwrap();
    block.extend(
        [stored, version, recipe.state, recipe.state]
            .map(u16::to_le_bytes)
            .concat(),
    );
    let (encrypted, sectors) = match version {
        // Nobody says for sure whether Vista writes its size there.
        1 => (recipe.encrypted, 0),
        _ if recipe.encrypted == 0 => (size, recipe.head / recipe.sector as u64),
        _ => (recipe.encrypted, recipe.head / recipe.sector as u64),
    };
    block.extend(encrypted.to_le_bytes());
    block.extend(
        [0, u32::try_from(sectors).unwrap()]
            .map(u32::to_le_bytes)
            .concat(),
    );
    block.extend(recipe.metadata().map(u64::to_le_bytes).concat());
    let last = if version == 1 { MIRROR } else { recipe.kept() };
    block.extend(last.to_le_bytes());
    block.extend(set);
    block.resize(length, 0);
    let hash = entry(0, 5, &sealed(&master, 51, &key_entry(0x2005, &sha(&block))));
    let check = [8 + hash.len() as u16, version]
        .map(u16::to_le_bytes)
        .concat();
    let sum = crc32fast::hash(&block).to_le_bytes();
    block.extend([&check[..], &sum, if version == 1 { &[] } else { &hash }].concat());
    block
}

/// The cluster of the MFT's mirror, which Vista's header has lost.
pub const MIRROR: u64 = 0x1234;

/// The volume header of the encrypted volume.
fn header(recipe: &Recipe, plain: &[u8]) -> Vec<u8> {
    let mut head = plain[..512].to_vec();
    let offsets = recipe.metadata().map(u64::to_le_bytes).concat();
    let sector = (recipe.sector as u16).to_le_bytes();
    if recipe.looks == Looks::Vista {
        head[3..11].copy_from_slice(b"-FVE-FS-");
        let cluster = recipe.metadata()[0] / (recipe.sector as u64 * u64::from(head[13]));
        head[56..64].copy_from_slice(&cluster.to_le_bytes());
        return head;
    }
    head.fill(0);
    head[..3].copy_from_slice(b"\xeb\x58\x90");
    head[11..13].copy_from_slice(&sector);
    head[13] = 8;
    head[0x15] = 0xf8;
    head[510..].copy_from_slice(b"\x55\xaa");
    let normal = b"\x3b\xd6\x67\x49\x29\x2e\xd8\x4a\x83\x99\xf6\xa3\x39\xe3\xd0\x01";
    let on_write = b"\x3b\x4d\xa8\x92\x80\xdd\x0e\x4d\x9e\x4e\xb1\xe3\x28\x4e\xae\xd8";
    let (signature, at, guid) = match recipe.looks {
        Looks::ToGo => (b"MSWIN4.1", 424, normal),
        Looks::OnWrite => (b"-FVE-FS-", 160, on_write),
        _ => (b"-FVE-FS-", 160, normal),
    };
    head[3..11].copy_from_slice(signature);
    head[at..at + 16].copy_from_slice(guid);
    head[at + 16..at + 40].copy_from_slice(&offsets);
    if recipe.looks == Looks::OnWrite {
        let tables = map(recipe, 0).tables;
        head[at + 40..at + 56].copy_from_slice(&tables.map(u64::to_le_bytes).concat());
    }
    head
}

fn put(image: &mut [u8], at: u64, bytes: &[u8]) {
    let at = at as usize;
    image[at..at + bytes.len()].copy_from_slice(bytes);
}

/// The volume `plain` as it is encrypted. What lies in [`KEPT`], as far behind as the recipe says, must be zeros.
pub fn make(recipe: &Recipe, plain: &[u8]) -> Vec<u8> {
    assert!(is_free(plain, recipe.at));
    let size = plain.len() as u64;
    let mut image = plain.to_vec();
    let cipher = Cipher::new(recipe.method, recipe.sector, &sector_keys(recipe.method));
    let is_encrypted = |offset: u64| match recipe.looks {
        Looks::OnWrite => recipe.written.iter().any(|range| range.contains(&offset)),
        _ => recipe.encrypted == 0 || offset < recipe.encrypted,
    };
    for (offset, sector) in (0..)
        .step_by(recipe.sector)
        .zip(image.chunks_mut(recipe.sector))
    {
        let is_plain = recipe.looks == Looks::Vista && offset < 0x2000;
        if is_encrypted(offset) && !is_plain {
            cipher.encrypt(offset, sector);
        }
    }
    if recipe.looks != Looks::Vista {
        let mut head = plain[..recipe.head as usize].to_vec();
        for (offset, sector) in (recipe.kept()..)
            .step_by(recipe.sector)
            .zip(head.chunks_mut(recipe.sector))
        {
            if is_encrypted(offset) {
                cipher.encrypt(offset, sector);
            }
        }
        put(&mut image, recipe.kept(), &head);
        // What was there before is nobody's.
        put(&mut image, 0, &noise(3, recipe.head as usize));
    }
    put(&mut image, 0, &header(recipe, plain));
    for (number, offset) in recipe.metadata().into_iter().enumerate() {
        put(&mut image, offset, &metadata(recipe, size, number));
    }
    if recipe.looks == Looks::OnWrite {
        for (at, bytes) in map(recipe, size).pieces() {
            put(&mut image, at, &bytes);
        }
    }
    image
}

/// Whether `range` of the volume may become BitLocker's own, which reads as zeros.
pub fn is_free(plain: &[u8], at: u64) -> bool {
    let kept = (KEPT.start + at) as usize..(KEPT.end + at) as usize;
    let found = plain.get(kept);
    found.is_some_and(|bytes| bytes.iter().all(|byte| *byte == 0))
}

/// The map of what is encrypted on write. Its older record says that everything is.
pub fn map(recipe: &Recipe, size: u64) -> Map {
    let chunks = size.div_ceil(CHUNK) as usize;
    let mut bits = vec![0u8; chunks.div_ceil(8)];
    for chunk in 0..chunks {
        let offset = chunk as u64 * CHUNK;
        if recipe.written.iter().any(|range| range.contains(&offset)) {
            bits[chunk / 8] |= 1 << (chunk % 8);
        }
    }
    let record = |number, bits| Record {
        number,
        chunks: chunks as u32,
        bits,
    };
    let log = recipe.at + LOG;
    Map {
        sector: recipe.sector as u32,
        chunk: CHUNK as u32,
        region: 0..size,
        tables: TABLE.map(|table| table + recipe.at),
        bitmap: recipe.at + BITMAP,
        log: log..log + LOG_SIZE,
        room: 0xe00,
        records: [record(6, vec![0xff; bits.len()]), record(7, bits)],
    }
}
