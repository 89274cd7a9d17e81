//! A filter says what was asked for, and its page tokens belong to it alone.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::filters::check(input));
