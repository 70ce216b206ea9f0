//! libFuzzer's door to the target `segment_made`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cairn_fuzz::segments::made(data);
});
