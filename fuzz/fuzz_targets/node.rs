//! libFuzzer's door to the target `node`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cairn_fuzz::maps::node(data);
});
