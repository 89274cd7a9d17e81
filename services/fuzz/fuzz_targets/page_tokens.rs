//! A token that was written is read back, and any other one is refused.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::page_tokens::check(input));
