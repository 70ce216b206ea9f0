//! libFuzzer's door to the target `xpress`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cairn_fuzz::ntfs::xpress(data);
});
