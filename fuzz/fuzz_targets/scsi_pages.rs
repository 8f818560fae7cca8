//! libFuzzer's way into the target `scsi_pages` of `bowline::fuzzing`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bowline::fuzzing::run("scsi_pages", data));
