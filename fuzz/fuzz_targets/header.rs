//! libFuzzer's door to the target `header`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cairn_fuzz::records::header(data);
});
