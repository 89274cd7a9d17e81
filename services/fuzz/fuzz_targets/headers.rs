//! No headers make the envelope panic, and whatever follows from a message that was understood is understood too.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::headers::check(input));
