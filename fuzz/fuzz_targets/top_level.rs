#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| rota::fuzzing::top_level(data));
