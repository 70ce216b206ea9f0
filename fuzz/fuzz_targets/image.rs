//! libFuzzer's door to the target `image`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cairn_fuzz::disks::any(data);
});
