//! libFuzzer's door to the target `leaf`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cairn_fuzz::maps::leaf(data);
});
