//! libFuzzer's way into the target `rbd_info` of `bowline::fuzzing`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bowline::fuzzing::run("rbd_info", data));
