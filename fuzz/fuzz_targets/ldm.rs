//! libFuzzer's door to the target `ldm`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cairn_fuzz::dynamic::group(data);
});
