//! Sectors, encrypted: AES-CBC, the Elephant diffuser and AES-XTS as their papers have them, byte by byte and word by word.

use aes::cipher::{Array, BlockCipherEncrypt, KeyInit, consts::U16};
use aes::{Aes128, Aes256};

type Block = Array<u8, U16>;

enum Aes {
    A128(Box<Aes128>),
    A256(Box<Aes256>),
}

impl Aes {
    fn new(key: &[u8]) -> Aes {
        match key.len() {
            16 => Aes::A128(Box::new(Aes128::new(key.try_into().unwrap()))),
            _ => Aes::A256(Box::new(Aes256::new(key.try_into().unwrap()))),
        }
    }

    fn one(&self, bytes: [u8; 16]) -> [u8; 16] {
        let mut block: Block = bytes.into();
        match self {
            Aes::A128(aes) => aes.encrypt_block(&mut block),
            Aes::A256(aes) => aes.encrypt_block(&mut block),
        }
        block.into()
    }
}

/// The cipher of a volume's sectors.
pub struct Cipher {
    method: u16,
    sector: u64,
    first: Aes,
    second: Option<Aes>,
}

impl Cipher {
    pub fn new(method: u16, sector: usize, keys: &[u8]) -> Cipher {
        let (first, second) = match method {
            0x8000 => (&keys[..16], Some(&keys[32..48])),
            0x8001 => (&keys[..32], Some(&keys[32..])),
            0x8002 | 0x8003 => (keys, None),
            _ => (&keys[..keys.len() / 2], Some(&keys[keys.len() / 2..])),
        };
        Cipher {
            method,
            sector: sector as u64,
            first: Aes::new(first),
            second: second.map(Aes::new),
        }
    }

    pub fn encrypt(&self, offset: u64, sector: &mut [u8]) {
        match (self.method, &self.second) {
            (0x8004 | 0x8005, Some(second)) => self.xts(second, offset, sector),
            (0x8000 | 0x8001, Some(second)) => {
                diffuse(second, offset, sector);
                self.cbc(offset, sector);
            }
            _ => self.cbc(offset, sector),
        }
    }

    fn cbc(&self, offset: u64, sector: &mut [u8]) {
        let mut before = self.first.one(u128::from(offset).to_le_bytes());
        for block in sector.chunks_mut(16) {
            let mixed: [u8; 16] = std::array::from_fn(|at| block[at] ^ before[at]);
            before = self.first.one(mixed);
            block.copy_from_slice(&before);
        }
    }

    /// IEEE 1619, byte by byte.
    fn xts(&self, second: &Aes, offset: u64, sector: &mut [u8]) {
        let mut tweak = second.one(u128::from(offset / self.sector).to_le_bytes());
        for block in sector.chunks_mut(16) {
            let mixed: [u8; 16] = std::array::from_fn(|at| block[at] ^ tweak[at]);
            let done = self.first.one(mixed);
            for at in 0..16 {
                block[at] = done[at] ^ tweak[at];
            }
            let mut carry = 0;
            for byte in &mut tweak {
                let next = *byte >> 7;
                *byte = *byte << 1 | carry;
                carry = next;
            }
            if carry == 1 {
                tweak[0] ^= 0x87;
            }
        }
    }
}

/// The sector's key and both diffusers, by the indexes of Ferguson's paper.
fn diffuse(second: &Aes, offset: u64, sector: &mut [u8]) {
    let mut number = u128::from(offset).to_le_bytes();
    let low = second.one(number);
    number[15] = 0x80;
    let key = [low, second.one(number)].concat();
    for (at, byte) in sector.iter_mut().enumerate() {
        *byte ^= key[at % 32];
    }
    let mut words: Vec<u32> = sector
        .chunks(4)
        .map(|word| u32::from_le_bytes(word.try_into().unwrap()))
        .collect();
    let n = words.len();
    for _ in 0..5 {
        for i in (0..n).rev() {
            let turned = words[(i + n - 5) % n].rotate_left([9, 0, 13, 0][i % 4]);
            words[i] = words[i].wrapping_sub(words[(i + n - 2) % n] ^ turned);
        }
    }
    for _ in 0..3 {
        for i in (0..n).rev() {
            let turned = words[(i + 5) % n].rotate_left([0, 10, 0, 25][i % 4]);
            words[i] = words[i].wrapping_sub(words[(i + 2) % n] ^ turned);
        }
    }
    for (bytes, word) in sector.chunks_mut(4).zip(words) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
}
