//! The kept corpora hold, on any toolchain, and nothing that is decoded is left out.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod corpus;
mod seeds;
