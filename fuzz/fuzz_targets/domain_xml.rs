//! libFuzzer's way into the target `domain_xml` of `bowline::fuzzing`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bowline::fuzzing::run("domain_xml", data));
