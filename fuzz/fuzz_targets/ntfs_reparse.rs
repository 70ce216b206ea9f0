//! libFuzzer's door to the target `ntfs_reparse`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cairn_fuzz::ntfs::reparse(data);
});
