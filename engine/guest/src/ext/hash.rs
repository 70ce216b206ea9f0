//! The hashes of names in indexed folders (`fs/ext4/hash.c`): legacy, half MD4 and TEA, each over signed or
//! unsigned characters.

/// A hash function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Legacy,
    HalfMd4,
    Tea,
}

/// How names are hashed in one folder.
#[derive(Debug, Clone, Copy)]
pub(super) struct NameHash {
    pub method: Method,
    /// Whether characters above 127 count as negative.
    pub signed: bool,
    pub seed: [u32; 4],
}

/// `s_flags`: the file system was made where characters are unsigned.
const UNSIGNED_FLAG: u32 = 2;

impl NameHash {
    /// The hash of version `version` (superblock or index root). `None` for one that is not known.
    pub fn new(version: u8, flags: u32, seed: [u32; 4]) -> Option<NameHash> {
        let (method, signed) = match version {
            0 => (Method::Legacy, flags & UNSIGNED_FLAG == 0),
            1 => (Method::HalfMd4, flags & UNSIGNED_FLAG == 0),
            2 => (Method::Tea, flags & UNSIGNED_FLAG == 0),
            3 => (Method::Legacy, false),
            4 => (Method::HalfMd4, false),
            5 => (Method::Tea, false),
            _ => return None,
        };
        Some(NameHash {
            method,
            signed,
            seed,
        })
    }

    /// The major and minor hash of `name`.
    pub fn of(&self, name: &[u8]) -> (u32, u32) {
        let mut state = if self.seed == [0; 4] {
            [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476]
        } else {
            self.seed
        };
        let (hash, minor) = match self.method {
            Method::Legacy => (self.legacy(name), 0),
            Method::HalfMd4 => {
                let mut rest = name;
                while !rest.is_empty() {
                    half_md4(&mut state, &self.words::<8>(rest));
                    rest = rest.get(32..).unwrap_or_default();
                }
                let [_, hash, minor, _] = state;
                (hash, minor)
            }
            Method::Tea => {
                let mut rest = name;
                while !rest.is_empty() {
                    tea(&mut state, &self.words::<4>(rest));
                    rest = rest.get(16..).unwrap_or_default();
                }
                let [hash, minor, _, _] = state;
                (hash, minor)
            }
        };
        let hash = hash & !1;
        // The largest value stands for the end of a listing.
        (
            if hash == 0xffff_fffe {
                0xffff_fffc
            } else {
                hash
            },
            minor,
        )
    }

    fn character(&self, byte: u8) -> u32 {
        if self.signed && byte >= 0x80 {
            u32::from(byte) | 0xffff_ff00
        } else {
            u32::from(byte)
        }
    }

    fn legacy(&self, name: &[u8]) -> u32 {
        let (mut last, mut before) = (0x12a3_fe2du32, 0x37ab_e8f9u32);
        for &byte in name {
            let mixed = last ^ self.character(byte).wrapping_mul(7_152_373);
            let mut hash = before.wrapping_add(mixed);
            if hash & 0x8000_0000 != 0 {
                hash = hash.wrapping_sub(0x7fff_ffff);
            }
            before = last;
            last = hash;
        }
        last << 1
    }

    /// The next words of a name, padded with its remaining length.
    fn words<const N: usize>(&self, rest: &[u8]) -> [u32; N] {
        let length = u32::try_from(rest.len()).unwrap_or(0);
        let pad = length | (length << 8);
        let pad = pad | (pad << 16);
        let mut words = [pad; N];
        for (word, bytes) in words.iter_mut().zip(rest.chunks(4)) {
            for &byte in bytes {
                *word = self.character(byte).wrapping_add(*word << 8);
            }
        }
        words
    }
}

fn half_md4(state: &mut [u32; 4], words: &[u32; 8]) {
    type Mix = fn(u32, u32, u32) -> u32;
    let rounds: [(Mix, u32, [usize; 8], [u32; 4]); 3] = [
        (
            |x, y, z| z ^ (x & (y ^ z)),
            0,
            [0, 1, 2, 3, 4, 5, 6, 7],
            [3, 7, 11, 19],
        ),
        (
            |x, y, z| (x & y).wrapping_add((x ^ y) & z),
            0x5a82_7999,
            [1, 3, 5, 7, 0, 2, 4, 6],
            [3, 5, 9, 13],
        ),
        (
            |x, y, z| x ^ y ^ z,
            0x6ed9_eba1,
            [3, 7, 2, 6, 1, 5, 0, 4],
            [3, 9, 11, 15],
        ),
    ];
    let [mut a, mut b, mut c, mut d] = *state;
    for (mix, constant, order, shifts) in rounds {
        for (index, shift) in order.iter().zip(shifts.iter().cycle()) {
            let word = words.get(*index).copied().unwrap_or(0);
            let sum = a
                .wrapping_add(mix(b, c, d))
                .wrapping_add(word)
                .wrapping_add(constant)
                .rotate_left(*shift);
            (a, b, c, d) = (d, sum, b, c);
        }
    }
    for (word, add) in state.iter_mut().zip([a, b, c, d]) {
        *word = word.wrapping_add(add);
    }
}

fn tea(state: &mut [u32; 4], words: &[u32; 4]) {
    let [first, second, _, _] = *state;
    let [a, b, c, d] = *words;
    let (mut left, mut right, mut sum) = (first, second, 0u32);
    for _ in 0..16 {
        sum = sum.wrapping_add(0x9e37_79b9);
        left = left.wrapping_add(
            (right << 4).wrapping_add(a) ^ right.wrapping_add(sum) ^ (right >> 5).wrapping_add(b),
        );
        right = right.wrapping_add(
            (left << 4).wrapping_add(c) ^ left.wrapping_add(sum) ^ (left >> 5).wrapping_add(d),
        );
    }
    for (word, add) in state.iter_mut().zip([left, right]) {
        *word = word.wrapping_add(add);
    }
}
