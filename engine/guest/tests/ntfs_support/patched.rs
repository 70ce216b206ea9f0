//! Finding what is to be damaged in the bytes of a volume.

/// The first attribute of type `kind` in the record at `record`.
pub fn attribute(bytes: &[u8], record: usize, kind: u8) -> usize {
    let mut at = record + usize::from(bytes[record + 20]);
    while bytes[at] != kind {
        at += u32::from_le_bytes(bytes[at + 4..at + 8].try_into().unwrap()) as usize;
    }
    at
}

/// Where the value of the resident attribute at `at` begins.
pub fn value(bytes: &[u8], at: usize) -> usize {
    assert_eq!(bytes[at + 8], 0, "not in its record");
    at + usize::from(bytes[at + 20])
}

/// Sets FILE_ATTRIBUTE_* of the record at `record`.
pub fn add_flags(bytes: &mut [u8], record: usize, flags: u32) {
    let at = attribute(bytes, record, 0x10);
    let value = value(bytes, at) + 32;
    let old = u32::from_le_bytes(bytes[value..value + 4].try_into().unwrap());
    bytes[value..value + 4].copy_from_slice(&(old | flags).to_le_bytes());
}

/// Every place at which `wanted` stands.
pub fn places(bytes: &[u8], wanted: &[u8]) -> Vec<usize> {
    let windows = bytes.windows(wanted.len()).enumerate();
    let found = windows.filter(|(_, window)| *window == wanted);
    found.map(|(at, _)| at).collect()
}
