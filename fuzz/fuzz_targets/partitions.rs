//! libFuzzer's door to the target `partitions`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cairn_fuzz::guests::partitions(data);
});
