//! libFuzzer's way into the target `block_device_mapping` of `bowline::fuzzing`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bowline::fuzzing::run("block_device_mapping", data));
