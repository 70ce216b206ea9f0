//! libFuzzer's door to the target `pack`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cairn_fuzz::packs::whole(data);
});
