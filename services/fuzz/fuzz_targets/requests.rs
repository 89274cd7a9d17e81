//! No request makes its check panic, and whoever is refused is told which field is wrong.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::requests::check(input));
