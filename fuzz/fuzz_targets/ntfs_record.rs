//! libFuzzer's door to the target `ntfs_record`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cairn_fuzz::ntfs::record(data);
});
