//! libFuzzer's door to the target `vmdk_descriptor`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cairn_fuzz::disks::vmdk_descriptor(data);
});
