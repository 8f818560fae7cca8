//! libFuzzer's way into the target `image_patch` of `bowline_backend::fuzzing`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bowline_backend::fuzzing::run("image_patch", data));
