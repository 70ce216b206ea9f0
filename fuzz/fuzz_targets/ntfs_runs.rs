//! libFuzzer's door to the target `ntfs_runs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cairn_fuzz::ntfs::runs(data);
});
