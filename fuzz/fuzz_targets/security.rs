//! libFuzzer's door to the target `security`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cairn_fuzz::security::security(data);
});
