//! libFuzzer's door to the target `hive`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cairn_fuzz::guests::hive(data);
});
