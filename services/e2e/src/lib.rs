//! The shop under load and faults, and whether it kept its word: orders by an open loop, faults by a seeded schedule, and
//! afterwards every database and every topic held against each other. The tests of the whole shop are in `tests/`.

pub mod arena;
pub mod ledger;
pub mod proxy;
pub mod sender;

pub mod customer;
pub mod load;
pub mod supplier;
pub mod tally;

pub mod fault;
pub mod healing;
pub mod injector;
pub mod offsets;
pub mod redrive;

pub mod checker;
pub mod event_rules;
pub mod finding;
pub mod order_rules;
pub mod sequence_rules;
pub mod snapshot;
pub mod stock_rules;

pub mod program;
pub mod report;
pub mod run;
