//! libFuzzer's door to the target `vdi`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cairn_fuzz::disks::vdi(data);
});
