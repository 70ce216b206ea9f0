//! libFuzzer's door to the target `nbd`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cairn_fuzz::servers::nbd(data);
});
