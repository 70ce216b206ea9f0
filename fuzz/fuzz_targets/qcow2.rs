//! libFuzzer's door to the target `qcow2`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cairn_fuzz::disks::qcow2(data);
});
