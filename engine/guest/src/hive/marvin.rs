//! Marvin32, the hash of log entries.

/// What it begins with, lower half first.
const SEED: [u32; 2] = [0x7a4e_55c5, 0x82ef_4d88];

/// The hash of `bytes`, 64 bits.
pub fn marvin32(bytes: &[u8]) -> u64 {
    from(SEED, bytes)
}

fn from(mut state: [u32; 2], bytes: &[u8]) -> u64 {
    let words = bytes.chunks_exact(4);
    let rest = words.remainder();
    for word in words {
        mix(&mut state, word.try_into().map_or(0, u32::from_le_bytes));
    }
    // What is left of a word, with a mark behind it.
    let mut last = [0; 4];
    for (byte, value) in last.iter_mut().zip(rest.iter().chain(&[0x80])) {
        *byte = *value;
    }
    mix(&mut state, u32::from_le_bytes(last));
    mix(&mut state, 0);
    let [low, high] = state;
    (u64::from(high) << 32) | u64::from(low)
}

fn mix([low, high]: &mut [u32; 2], word: u32) {
    *low = low.wrapping_add(word);
    *high ^= *low;
    *low = low.rotate_left(20).wrapping_add(*high);
    *high = high.rotate_left(9) ^ *low;
    *low = low.rotate_left(27).wrapping_add(*high);
    *high = high.rotate_left(19);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers of the hash in .NET (`MarvinTests.cs`), for another beginning.
    #[test]
    fn known_answers() {
        let seed = [0x001b_dbcc, 0x004f_b61a];
        for (bytes, hash) in [
            (&b""[..], 0x30ed_35c1_00cd_3c7d),
            (b"\xaf", 0x48e7_3fc7_7d75_ddc1),
            (b"\xe7\x0f", 0xb5f6_e1fc_485d_bff8),
            (b"\x37\xf4\x95", 0xf0b0_7c78_9b8c_f7e8),
            (b"\x86\x42\xdc\x59", 0x7008_f2e8_7e9c_f556),
            (b"\x15\x3f\xb7\x98\x26", 0xe6c0_8c6d_a2af_a997),
            (b"\xab\x42\x7e\xa8\xd1\x0f\xc7", 0xe118_47e4_f067_8c41),
        ] {
            assert_eq!(from(seed, bytes), hash, "{bytes:02x?}");
        }
    }
}
