#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dinomaly_fuzz::run("safetensors", bytes));
