//! libFuzzer's door to the target `overlay`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cairn_fuzz::overlays::map(data);
});
