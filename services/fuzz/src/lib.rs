//! What must hold for whatever bytes come in: one function for each decoder, which panics where it does not hold. libFuzzer
//! feeds them with what it thinks up (`make fuzz`), a test with what was kept in `corpus/`.

pub mod requests;

pub mod filters;
pub mod page_tokens;

pub mod headers;
pub mod payloads;

/// A target: its name, which is that of its corpus and its program too, and what must hold.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 5] = [
    ("requests", requests::check),
    ("headers", headers::check),
    ("payloads", payloads::check),
    ("filters", filters::check),
    ("page_tokens", page_tokens::check),
];
