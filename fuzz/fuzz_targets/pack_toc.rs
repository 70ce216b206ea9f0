//! libFuzzer's door to the target `pack_toc`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cairn_fuzz::packs::toc(data);
});
