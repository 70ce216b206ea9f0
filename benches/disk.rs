//! A disk made of what disks hold: programs, text, database pages, compressed files, in files of all sizes aligned to
//! 4 KiB, with no file twice. Always the same bytes for the same seed.

use std::ops::Range;

const BLOCK: usize = 4096;

/// SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): fast, and good enough to look like noise.
pub struct Noise(u64);

impl Noise {
    pub fn new(seed: u64) -> Noise {
        Noise(seed)
    }

    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, range: Range<usize>) -> usize {
        let width = (range.end - range.start) as u64;
        range.start + (((u128::from(self.word()) * u128::from(width)) >> 64) as usize)
    }

    pub fn fill(&mut self, out: &mut [u8]) {
        for part in out.chunks_mut(8) {
            part.copy_from_slice(&self.word().to_le_bytes()[..part.len()]);
        }
    }

    /// Small numbers far more often than large ones, as words are in a text.
    fn skewed(&mut self, end: usize) -> usize {
        let spread = self.word();
        let unit = (spread >> 11) as f64 / (1u64 << 53) as f64;
        (unit.powi(6) * end as f64) as usize
    }
}

/// `length` bytes of a disk in use.
pub fn realistic(length: usize, seed: u64) -> Vec<u8> {
    let mut noise = Noise::new(seed);
    let words = vocabulary(&mut noise, 20_000, 2..12, true);
    let code = vocabulary(&mut noise, 4_000, 2..16, false);
    let mut out = Vec::with_capacity(length + (4 << 20));
    while out.len() < length {
        // Many small files, most bytes in large ones.
        let size = (BLOCK << noise.below(0..10)) + noise.below(0..BLOCK);
        let end = out.len() + size;
        match noise.below(0..100) {
            0..54 => program(&mut out, end, &mut noise, &code),
            54..80 => text(&mut out, end, &mut noise, &words),
            80..91 => database(&mut out, end, &mut noise, &words),
            _ => {
                let start = out.len();
                out.resize(end, 0);
                noise.fill(&mut out[start..]);
            }
        }
        out.truncate(end);
        // What a file leaves of its last block is zeros.
        out.resize(out.len().next_multiple_of(BLOCK), 0);
    }
    out.truncate(length);
    out
}

fn vocabulary(
    noise: &mut Noise,
    count: usize,
    length: Range<usize>,
    letters: bool,
) -> Vec<Vec<u8>> {
    (0..count)
        .map(|_| {
            let mut word = vec![0; noise.below(length.clone())];
            noise.fill(&mut word);
            if letters {
                word.iter_mut().for_each(|byte| *byte = b'a' + *byte % 26);
            }
            word
        })
        .collect()
}

/// Instructions that come again and again, with operands that do not.
fn program(out: &mut Vec<u8>, end: usize, noise: &mut Noise, code: &[Vec<u8>]) {
    while out.len() < end {
        out.extend_from_slice(&code[noise.skewed(code.len())]);
        let operand = noise.word();
        match operand % 8 {
            0 => out.extend_from_slice(&operand.to_le_bytes()[5..8]),
            1 | 2 => out.push((operand >> 8) as u8),
            _ => {}
        }
    }
}

fn text(out: &mut Vec<u8>, end: usize, noise: &mut Noise, words: &[Vec<u8>]) {
    while out.len() < end {
        for _ in 0..noise.below(4..14) {
            out.extend_from_slice(&words[noise.skewed(words.len())]);
            out.push(b' ');
        }
        out.extend_from_slice(format!("{}\n", noise.below(0..1_000_000)).as_bytes());
    }
}

/// Pages of 8 KiB: a head, rows of words and numbers from the end, nothing in between.
fn database(out: &mut Vec<u8>, end: usize, noise: &mut Noise, words: &[Vec<u8>]) {
    while out.len() < end {
        let page = out.len();
        out.extend_from_slice(&noise.word().to_le_bytes());
        out.resize(page + 24 + noise.below(100..400), 0);
        while out.len() < page + 8100 {
            out.extend_from_slice(&(out.len() as u64).to_le_bytes());
            out.extend_from_slice(&noise.word().to_le_bytes());
            out.extend_from_slice(&noise.word().to_le_bytes());
            for _ in 0..4 {
                out.extend_from_slice(&words[noise.skewed(words.len())]);
                out.push(0);
            }
        }
        out.resize(page + 8192, 0);
    }
}
