//! libFuzzer's door to the target `segment`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cairn_fuzz::segments::segment(data);
});
