//! libFuzzer's way into the target `mountinfo` of `bowline::fuzzing`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bowline::fuzzing::run("mountinfo", data));
