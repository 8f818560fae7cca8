//! libFuzzer's way into the target `service_answer` of `bowline::fuzzing`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bowline::fuzzing::run("service_answer", data));
