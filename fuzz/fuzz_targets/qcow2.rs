//! libFuzzer's way into the target `qcow2` of `bowline::fuzzing`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bowline::fuzzing::run("qcow2", data));
