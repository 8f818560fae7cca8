//! libFuzzer's way into the target `clouds_yaml` of `bowline::fuzzing`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bowline::fuzzing::run("clouds_yaml", data));
