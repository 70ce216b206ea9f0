//! libFuzzer's door to the target `machine_name`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cairn_fuzz::records::machine_name(data);
});
