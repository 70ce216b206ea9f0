//! libFuzzer's door to the target `ext`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cairn_fuzz::guests::ext(data);
});
