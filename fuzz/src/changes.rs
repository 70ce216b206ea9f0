//! Change information in JSON.

#[allow(
    dead_code,
    unreachable_pub,
    reason = "the command's own source; a binary has no library to take it from"
)]
#[path = "../../tools/src/changes.rs"]
mod parser;

/// Entries that are read.
const LIMIT: u64 = 10_000;

/// A list of ranges: the first 5 bytes are the size of the disk.
pub fn changes(data: &[u8]) -> bool {
    let Some((size, text)) = data.split_first_chunk::<5>() else {
        return false;
    };
    let size = size
        .iter()
        .rev()
        .fold(0, |n, byte| n << 8 | u64::from(*byte));
    let Ok(changes) = parser::parse(text, size, LIMIT) else {
        return false;
    };
    let ranges: Vec<_> = changes.within(0..size).collect();
    assert!(
        ranges
            .windows(2)
            .all(|pair| pair[0].range.end <= pair[1].range.start)
    );
    assert!(
        ranges
            .iter()
            .all(|c| c.range.start < c.range.end && c.range.end <= size)
    );
    // What was understood, written plainly, is understood in the same way.
    let plain: Vec<String> = ranges
        .iter()
        .map(|change| {
            let (start, zero) = (change.range.start, change.zero);
            let length = change.range.end - start;
            format!(r#"{{"start":{start},"length":{length},"zero":{zero}}}"#)
        })
        .collect();
    let plain = format!("[{}]", plain.join(","));
    let again = parser::parse(plain.as_bytes(), size, LIMIT).unwrap();
    assert_eq!(again, changes);
    true
}
