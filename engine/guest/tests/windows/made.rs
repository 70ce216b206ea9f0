//! Writes hives and logs of hives, for tests: as the format's specification says, and as libhivex and libregf read them.
#![allow(dead_code, reason = "each test uses a part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "only tests use it"
)]

/// Where the bins begin.
pub const BINS: usize = 4096;
const NOTHING: u32 = u32::MAX;
/// 2026-11-20 02:00:00 UTC in units of 100 ns since 1601.
pub const TICKS: u64 = (1_795_140_000 + 11_644_473_600) * 10_000_000;
/// Bytes of a piece of big data.
const PIECE: usize = 16_344;

/// A key to be written.
#[derive(Clone)]
pub struct MadeKey {
    pub name: String,
    /// Name, type and data.
    pub values: Vec<(String, u32, Vec<u8>)>,
    pub keys: Vec<MadeKey>,
    /// How its subkeys are listed: `lf`, `lh`, `li`, or `ri` for an index of `lh`.
    pub list: [u8; 2],
}

impl MadeKey {
    pub fn new(name: &str) -> MadeKey {
        MadeKey {
            name: name.to_string(),
            values: Vec::new(),
            keys: Vec::new(),
            list: *b"lh",
        }
    }

    pub fn value(mut self, name: &str, kind: u32, data: &[u8]) -> MadeKey {
        self.values.push((name.to_string(), kind, data.to_vec()));
        self
    }

    pub fn key(mut self, key: MadeKey) -> MadeKey {
        self.keys.push(key);
        self
    }

    pub fn listed(mut self, list: [u8; 2]) -> MadeKey {
        self.list = list;
        self
    }
}

/// A SYSTEM hive with letters and names of volumes: names of values, and their data.
pub fn system(devices: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut mounted = MadeKey::new("MountedDevices");
    for (name, data) in devices {
        mounted = mounted.value(name, 3, data);
    }
    let root = MadeKey::new("ROOT")
        .key(MadeKey::new("ControlSet001").key(MadeKey::new("Control")))
        .key(mounted)
        .key(MadeKey::new("Select").value("Current", 4, &[1, 0, 0, 0]))
        .key(MadeKey::new("Setup"));
    hive(&root)
}

/// What `MountedDevices` says of a partition of a DOS table.
pub fn by_place(signature: u32, start: u64) -> Vec<u8> {
    [&signature.to_le_bytes()[..], &start.to_le_bytes()].concat()
}

/// What `MountedDevices` says of a partition of a GPT.
pub fn by_guid(guid: [u8; 16]) -> Vec<u8> {
    [&b"DMIO:ID:"[..], &guid].concat()
}

/// A hive of version 1.5.
pub fn hive(root: &MadeKey) -> Vec<u8> {
    let mut writer = Writer { bins: vec![0; 32] };
    let security = writer.security();
    let at = writer.key(root, NOTHING, security, 0x2c);
    finish(writer, at)
}

fn finish(mut writer: Writer, root: u32) -> Vec<u8> {
    let used = writer.bins.len();
    let size = used.next_multiple_of(4096);
    writer.bins.resize(size, 0);
    if size > used {
        let free = (size - used) as u32;
        writer.bins[used..used + 4].copy_from_slice(&free.to_le_bytes());
    }
    writer.bins[..4].copy_from_slice(b"hbin");
    writer.bins[8..12].copy_from_slice(&(size as u32).to_le_bytes());
    writer.bins[20..28].copy_from_slice(&TICKS.to_le_bytes());
    let mut hive = vec![0; BINS];
    hive[..4].copy_from_slice(b"regf");
    for (at, number) in [
        (4, 7),
        (8, 7),
        (20, 1),
        (24, 5),
        (32, 1),
        (36, root),
        (40, size as u32),
        (44, 1),
    ] {
        put(&mut hive, at, number);
    }
    hive[12..20].copy_from_slice(&TICKS.to_le_bytes());
    hive.extend(writer.bins);
    sum(&mut hive);
    hive
}

/// Writes a number into a hive or log.
pub fn put(bytes: &mut [u8], at: usize, number: u32) {
    bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
}

/// Makes the checksum of a base block right.
pub fn sum(bytes: &mut [u8]) {
    let words = bytes[..508].chunks(4);
    let sum = words.fold(0, |sum, word| {
        sum ^ u32::from_le_bytes(word.try_into().unwrap())
    });
    put(bytes, 508, sum);
}

/// The hive as it is on the disk while it is in use: `primary` was counted up, and nothing written.
pub fn dirty(mut hive: Vec<u8>, primary: u32) -> Vec<u8> {
    put(&mut hive, 4, primary);
    sum(&mut hive);
    hive
}

/// The base block of a log.
pub fn head(of: &[u8], file_type: u32, sequence: u32) -> Vec<u8> {
    let mut head = of[..512].to_vec();
    put(&mut head, 4, sequence);
    put(&mut head, 8, sequence);
    put(&mut head, 28, file_type);
    sum(&mut head);
    head
}

/// The hash of entries, written anew from its description; `marvin.rs` has the known answers.
pub fn marvin(bytes: &[u8]) -> u64 {
    let (mut a, mut b) = (0x7a4e_55c5u32, 0x82ef_4d88u32);
    let mut block = |word: u32| {
        a = a.wrapping_add(word);
        b ^= a;
        a = a.rotate_left(20);
        a = a.wrapping_add(b);
        b = b.rotate_left(9);
        b ^= a;
        a = a.rotate_left(27);
        a = a.wrapping_add(b);
        b = b.rotate_left(19);
    };
    assert!(bytes.len().is_multiple_of(4));
    for word in bytes.chunks(4) {
        block(u32::from_le_bytes(word.try_into().unwrap()));
    }
    block(0x80);
    block(0);
    u64::from(b) << 32 | u64::from(a)
}

/// An entry with pages of 4096 bytes of `after`.
pub fn entry(sequence: u32, after: &[u8], pages: &[usize]) -> Vec<u8> {
    let mut entry = vec![0; 40];
    entry[..4].copy_from_slice(b"HvLE");
    put(&mut entry, 12, sequence);
    put(&mut entry, 16, (after.len() - BINS) as u32);
    put(&mut entry, 20, pages.len() as u32);
    for page in pages {
        entry.extend(((page * 4096) as u32).to_le_bytes());
        entry.extend(4096u32.to_le_bytes());
    }
    for page in pages {
        entry.extend(&after[BINS + page * 4096..BINS + (page + 1) * 4096]);
    }
    entry.resize(entry.len().next_multiple_of(512), 0);
    let length = entry.len() as u32;
    put(&mut entry, 4, length);
    let of_pages = marvin(&entry[40..]);
    entry[24..32].copy_from_slice(&of_pages.to_le_bytes());
    let of_head = marvin(&entry[..32]);
    entry[32..40].copy_from_slice(&of_head.to_le_bytes());
    entry
}

struct Writer {
    bins: Vec<u8>,
}

impl Writer {
    /// A cell; answers its offset.
    fn cell(&mut self, content: &[u8]) -> u32 {
        let at = self.bins.len();
        let size = (content.len() + 4).next_multiple_of(8);
        self.bins.extend((-(size as i32)).to_le_bytes());
        self.bins.extend(content);
        self.bins.resize(at + size, 0);
        at as u32
    }

    fn fill(&mut self, cell: u32, offset: usize, number: u32) {
        put(&mut self.bins, cell as usize + 4 + offset, number);
    }

    fn security(&mut self) -> u32 {
        let mut cell = b"sk\0\0".to_vec();
        for number in [0, 0, 1, 20] {
            cell.extend(u32::to_le_bytes(number));
        }
        // A descriptor without owner, group and lists.
        cell.extend([1, 0, 0, 0x80]);
        cell.extend([0; 16]);
        let at = self.cell(&cell);
        self.fill(at, 4, at);
        self.fill(at, 8, at);
        at
    }

    fn key(&mut self, key: &MadeKey, parent: u32, security: u32, flags: u16) -> u32 {
        let (name, is_latin) = name_of(&key.name);
        let flags = flags & !0x20 | if is_latin { 0x20 } else { 0 };
        let mut cell = vec![0; 76];
        cell[..2].copy_from_slice(b"nk");
        cell[2..4].copy_from_slice(&flags.to_le_bytes());
        cell[4..12].copy_from_slice(&TICKS.to_le_bytes());
        for (at, number) in [
            (16, parent),
            (20, key.keys.len() as u32),
            (28, NOTHING),
            (32, NOTHING),
            (36, key.values.len() as u32),
            (40, NOTHING),
            (44, security),
            (48, NOTHING),
        ] {
            put(&mut cell, at, number);
        }
        let longest = |lengths: Vec<usize>| lengths.into_iter().max().unwrap_or(0) as u32;
        put(
            &mut cell,
            52,
            longest(
                key.keys
                    .iter()
                    .map(|k| k.name.encode_utf16().count() * 2)
                    .collect(),
            ),
        );
        put(
            &mut cell,
            60,
            longest(
                key.values
                    .iter()
                    .map(|v| v.0.encode_utf16().count() * 2)
                    .collect(),
            ),
        );
        put(
            &mut cell,
            64,
            longest(key.values.iter().map(|v| v.2.len()).collect()),
        );
        cell[72..74].copy_from_slice(&(name.len() as u16).to_le_bytes());
        cell.extend(&name);
        let at = self.cell(&cell);
        let values: Vec<u32> = key.values.iter().map(|value| self.value(value)).collect();
        if !values.is_empty() {
            let list: Vec<u8> = values.iter().flat_map(|at| at.to_le_bytes()).collect();
            let list = self.cell(&list);
            self.fill(at, 40, list);
        }
        let mut keys: Vec<&MadeKey> = key.keys.iter().collect();
        keys.sort_by_key(|key| key.name.to_uppercase());
        let cells: Vec<(String, u32)> = keys
            .iter()
            .map(|key| (key.name.clone(), self.key(key, at, security, 0)))
            .collect();
        if !cells.is_empty() {
            let list = self.list(key.list, &cells);
            self.fill(at, 28, list);
        }
        at
    }

    fn list(&mut self, kind: [u8; 2], keys: &[(String, u32)]) -> u32 {
        if &kind == b"ri" {
            let (first, rest) = keys.split_at(keys.len().div_ceil(2));
            let parts = [first, rest].into_iter().filter(|part| !part.is_empty());
            let leaves: Vec<u32> = parts.map(|part| self.list(*b"lh", part)).collect();
            let mut cell = head_of_list(kind, leaves.len());
            cell.extend(leaves.iter().flat_map(|at| at.to_le_bytes()));
            return self.cell(&cell);
        }
        let mut cell = head_of_list(kind, keys.len());
        for (name, at) in keys {
            cell.extend(at.to_le_bytes());
            match &kind {
                b"lf" => {
                    let mut hint = name.clone().into_bytes();
                    hint.resize(4, 0);
                    cell.extend(&hint[..4]);
                }
                b"lh" => {
                    let units = name.to_uppercase();
                    let hash = units.encode_utf16().fold(0u32, |hash, unit| {
                        hash.wrapping_mul(37).wrapping_add(unit.into())
                    });
                    cell.extend(hash.to_le_bytes());
                }
                _ => {}
            }
        }
        self.cell(&cell)
    }

    fn value(&mut self, (name, kind, data): &(String, u32, Vec<u8>)) -> u32 {
        let (name, is_latin) = name_of(name);
        let mut cell = vec![0; 20];
        cell[..2].copy_from_slice(b"vk");
        cell[2..4].copy_from_slice(&(name.len() as u16).to_le_bytes());
        let mut size = data.len() as u32;
        if data.len() <= 4 {
            size |= 0x8000_0000;
            cell[8..8 + data.len()].copy_from_slice(data);
        } else {
            let at = if data.len() > PIECE {
                self.pieces(data)
            } else {
                self.cell(data)
            };
            put(&mut cell, 8, at);
        }
        put(&mut cell, 4, size);
        put(&mut cell, 12, *kind);
        cell[16] = u8::from(is_latin);
        cell.extend(name);
        self.cell(&cell)
    }

    fn pieces(&mut self, data: &[u8]) -> u32 {
        let pieces: Vec<u32> = data.chunks(PIECE).map(|piece| self.cell(piece)).collect();
        let list: Vec<u8> = pieces.iter().flat_map(|at| at.to_le_bytes()).collect();
        let list = self.cell(&list);
        let mut cell = head_of_list(*b"db", pieces.len());
        cell.extend(list.to_le_bytes());
        cell.extend([0; 4]);
        self.cell(&cell)
    }
}

fn head_of_list(kind: [u8; 2], count: usize) -> Vec<u8> {
    [&kind[..], &(count as u16).to_le_bytes()].concat()
}

/// One byte for each character where that is enough, else UTF-16.
fn name_of(name: &str) -> (Vec<u8>, bool) {
    let latin: Option<Vec<u8>> = name.chars().map(|c| u8::try_from(c).ok()).collect();
    match latin {
        Some(bytes) => (bytes, true),
        None => (
            name.encode_utf16().flat_map(u16::to_le_bytes).collect(),
            false,
        ),
    }
}
