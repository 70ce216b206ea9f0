//! libFuzzer's door to the target `damage`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cairn_fuzz::catalog::points(data);
});
