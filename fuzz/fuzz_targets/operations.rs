//! libFuzzer's door to the target `operations`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cairn_fuzz::operations::operations(data);
});
