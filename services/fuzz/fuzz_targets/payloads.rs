//! What is decoded once is decoded to the same again, and is not applied twice.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::payloads::check(input));
