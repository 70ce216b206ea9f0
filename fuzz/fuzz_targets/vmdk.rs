//! libFuzzer's door to the target `vmdk`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cairn_fuzz::disks::vmdk(data);
});
