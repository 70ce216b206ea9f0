//! libFuzzer's door to the target `retention`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cairn_fuzz::retention::retention(data);
});
