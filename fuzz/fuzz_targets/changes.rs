//! libFuzzer's door to the target `changes`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cairn_fuzz::changes::changes(data);
});
