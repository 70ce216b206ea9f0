//! libFuzzer's door to the target `lznt1`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cairn_fuzz::ntfs::lznt1(data);
});
