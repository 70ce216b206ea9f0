//! libFuzzer's door to the target `ntfs_index`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cairn_fuzz::ntfs::index(data);
});
