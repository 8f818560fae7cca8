//! libFuzzer's way into the target `request_body` of `bowline_backend::fuzzing`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bowline_backend::fuzzing::run("request_body", data));
