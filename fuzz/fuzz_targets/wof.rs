//! libFuzzer's door to the target `wof`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cairn_fuzz::ntfs::wof(data);
});
