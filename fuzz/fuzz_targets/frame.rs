//! libFuzzer's door to the target `frame`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cairn_fuzz::packs::frame(data);
});
