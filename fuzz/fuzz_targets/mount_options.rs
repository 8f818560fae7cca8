//! libFuzzer's way into the target `mount_options` of `bowline::fuzzing`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bowline::fuzzing::run("mount_options", data));
