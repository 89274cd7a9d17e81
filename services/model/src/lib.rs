//! The whole shop as a model: the pure functions that decide in production, and between them a network that does its worst.
//! [`stateright`] looks at every state it can get into. No rule of the saga is written a second time here; what is left out
//! on purpose, to see that it is needed, is left out around those functions, in [`seam`].

pub mod scenario;
pub mod shop;

pub mod message;
pub mod network;
pub mod routes;

mod fates;
mod parcels;
mod sagas;
mod stock;

pub mod seam;

pub mod checking;
pub mod properties;
pub mod verdict;

pub mod cli;
pub mod mutants;
pub mod report;
