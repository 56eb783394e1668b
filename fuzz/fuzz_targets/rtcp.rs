#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| offhook_fuzz::rtcp::fuzz(input));
