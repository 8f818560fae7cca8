//! libFuzzer's way into the target `sessions` of `bowline::fuzzing`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bowline::fuzzing::run("sessions", data));
