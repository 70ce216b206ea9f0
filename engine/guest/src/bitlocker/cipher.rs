//! How sectors are encrypted ("Encryption methods"): AES-CBC, with the Elephant diffuser or without, and AES-XTS (IEEE 1619).

use super::diffuser;
use aes::cipher::{Array, BlockCipherDecrypt, BlockCipherEncrypt, KeyInit, consts::U16};
use aes::{Aes128, Aes256};
use cairn_base::{Error, Result, View};
use std::fmt;
use zeroize::Zeroizing;

type Block = Array<u8, U16>;

/// Bytes that are decrypted at once.
const PIECE: usize = 512;
/// Blocks of a piece.
const BLOCKS: usize = 32;

/// A method of encryption.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// AES-CBC with the Elephant diffuser: 128 or 256 bits.
    Diffused(u16),
    /// AES-CBC: 128 or 256 bits.
    Cbc(u16),
    /// AES-XTS: 128 or 256 bits for each of its keys.
    Xts(u16),
    /// None that is known.
    Unknown(u16),
}

impl Method {
    /// The one with this number.
    pub(super) fn of(number: u16) -> Method {
        match number {
            0x8000 => Method::Diffused(128),
            0x8001 => Method::Diffused(256),
            0x8002 => Method::Cbc(128),
            0x8003 => Method::Cbc(256),
            0x8004 => Method::Xts(128),
            0x8005 => Method::Xts(256),
            other => Method::Unknown(other),
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Method::Diffused(bits) => write!(f, "AES-CBC {bits} with diffuser"),
            Method::Cbc(bits) => write!(f, "AES-CBC {bits}"),
            Method::Xts(bits) => write!(f, "AES-XTS {bits}"),
            Method::Unknown(number) => write!(f, "method {number:#06x}"),
        }
    }
}

/// AES with a key, which is wiped when it is dropped.
enum Aes {
    A128(Box<Aes128>),
    A256(Box<Aes256>),
}

impl Aes {
    /// AES with the first `bits` of `key`; none if there are not so many.
    fn new(key: &[u8], bits: u16) -> Option<Aes> {
        match bits {
            128 => {
                let key: &[u8; 16] = key.first_chunk()?;
                Some(Aes::A128(Box::new(Aes128::new(key.into()))))
            }
            _ => {
                let key: &[u8; 32] = key.first_chunk()?;
                Some(Aes::A256(Box::new(Aes256::new(key.into()))))
            }
        }
    }

    /// A number, little-endian, encrypted.
    fn encrypt(&self, number: u128) -> u128 {
        let mut block: Block = number.to_le_bytes().into();
        match self {
            Aes::A128(aes) => aes.encrypt_block(&mut block),
            Aes::A256(aes) => aes.encrypt_block(&mut block),
        }
        number_of(&block)
    }

    fn decrypt(&self, blocks: &mut [Block]) {
        match self {
            Aes::A128(aes) => aes.decrypt_blocks(blocks),
            Aes::A256(aes) => aes.decrypt_blocks(blocks),
        }
    }
}

fn number_of(block: &Block) -> u128 {
    u128::from_le_bytes(block.0)
}

fn xor(block: &mut Block, number: u128) {
    block.0 = (number_of(block) ^ number).to_le_bytes();
}

/// The key of a volume's sectors, ready for use.
pub(super) struct SectorCipher {
    method: Method,
    aes: Aes,
    /// The key of the tweak, or of the diffuser's.
    second: Option<Aes>,
    sector: usize,
}

impl SectorCipher {
    /// The cipher of a volume with sectors of `sector` bytes, a multiple of 512.
    ///
    /// # Errors
    /// Unsupported if the method is not known; damaged if the key is too short for it.
    pub fn new(method: u16, key: &[u8], sector: usize) -> Result<SectorCipher> {
        let method = Method::of(method);
        let view = View::new(key, "BitLocker volume key", 0);
        let (bits, second) = match method {
            // Of these each half has room for 256 bits.
            Method::Diffused(bits) => (bits, Some(view.tail(32)?)),
            Method::Cbc(bits) => (bits, None),
            Method::Xts(bits) => (bits, Some(view.tail(usize::from(bits / 8))?)),
            Method::Unknown(_) => {
                let what = format!("the volume is encrypted by an unknown {method}");
                return Err(Error::unsupported(what));
            }
        };
        let short = || view.damaged(0, "the key is too short for its method");
        let made = |key: View<'_>| Aes::new(key.bytes(), bits).ok_or_else(short);
        Ok(SectorCipher {
            method,
            aes: made(view)?,
            second: second.map(made).transpose()?,
            sector,
        })
    }

    /// Decrypts whole sectors that lie at `offset` of the volume, a multiple of the sector size.
    pub fn decrypt(&self, mut offset: u64, sectors: &mut [u8]) {
        let step = cairn_base::units::to_u64(self.sector);
        for sector in sectors.chunks_exact_mut(self.sector) {
            match (&self.method, &self.second) {
                (Method::Xts(_), Some(tweak)) => {
                    let number = offset.checked_div(step).unwrap_or(0);
                    self.xts(tweak.encrypt(number.into()), sector);
                }
                (Method::Diffused(_), Some(second)) => {
                    self.cbc(offset, sector);
                    undiffuse(second, offset, sector);
                }
                _ => self.cbc(offset, sector),
            }
            offset = offset.saturating_add(step);
        }
    }

    fn xts(&self, mut tweak: u128, sector: &mut [u8]) {
        let mut tweaks = [0u128; BLOCKS];
        for piece in sector.chunks_mut(PIECE) {
            let (blocks, _) = Block::slice_as_chunks_mut(piece);
            for (block, kept) in blocks.iter_mut().zip(&mut tweaks) {
                *kept = tweak;
                xor(block, tweak);
                // Times x in GF(2^128).
                let carry = if tweak >> 127 == 1 { 0x87 } else { 0 };
                tweak = (tweak << 1) ^ carry;
            }
            self.aes.decrypt(blocks);
            for (block, kept) in blocks.iter_mut().zip(&tweaks) {
                xor(block, *kept);
            }
        }
    }

    fn cbc(&self, offset: u64, sector: &mut [u8]) {
        let mut before = self.aes.encrypt(offset.into());
        let mut encrypted = [0u128; BLOCKS];
        for piece in sector.chunks_mut(PIECE) {
            let (blocks, _) = Block::slice_as_chunks_mut(piece);
            for (block, kept) in blocks.iter().zip(&mut encrypted) {
                *kept = number_of(block);
            }
            self.aes.decrypt(blocks);
            for (block, kept) in blocks.iter_mut().zip(&encrypted) {
                xor(block, before);
                before = *kept;
            }
        }
    }
}

/// Undoes the diffuser, and takes away the sector's key.
fn undiffuse(second: &Aes, offset: u64, sector: &mut [u8]) {
    let (bytes, _) = sector.as_chunks_mut::<4>();
    let mut words: Zeroizing<Vec<u32>> =
        Zeroizing::new(bytes.iter().map(|word| u32::from_le_bytes(*word)).collect());
    diffuser::undo(&mut words);
    for (to, word) in bytes.iter_mut().zip(words.iter()) {
        *to = word.to_le_bytes();
    }
    let number = u128::from(offset);
    let low = second.encrypt(number);
    let high = second.encrypt(number | 0x80 << 120);
    let (blocks, _) = Block::slice_as_chunks_mut(sector);
    for (block, key) in blocks.iter_mut().zip([low, high].into_iter().cycle()) {
        xor(block, key);
    }
}
