#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pastcam::fuzzing::jpeg(bytes));
