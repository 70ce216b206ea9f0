//! libFuzzer's door to the target `bitlocker`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cairn_fuzz::encrypted::bitlocker(data);
});
