//! What people ask of an outbox by hand. A verb reads, or writes a wish into Postgres; only the shard's owner carries
//! wishes out, so that no verb can get in the way of shipping.

pub mod doctor;
pub mod drain;
pub mod parked;
pub mod pause;
pub mod prepare;
pub mod replay;
pub mod reset;
pub mod status;
pub mod withdraw;

pub mod choice;
pub mod error;
pub mod terminal;
pub mod waiting;

use std::process::ExitCode;

pub use self::error::Error;
use crate::cli::{Parked, Verb};

/// Does it, says on stderr what went wrong, and returns what the process exits with.
pub async fn main(verb: Verb) -> ExitCode {
    match Box::pin(carry_out(verb)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            for line in error.lines() {
                terminal::tell(format!("error: {line}"));
            }
            ExitCode::FAILURE
        }
    }
}

/// Does what the command line says.
///
/// # Errors
/// What went wrong, in words for whoever typed it.
pub async fn carry_out(verb: Verb) -> Result<(), Error> {
    match verb {
        Verb::Run(config) => Ok(crate::start(*config).await?),
        Verb::Status(flags) => status::show(&flags).await,
        Verb::Parked(Parked::List(flags)) => parked::list::show(&flags).await,
        Verb::Parked(Parked::Show(flags)) => parked::show::show(&flags).await,
        Verb::Parked(Parked::Retry(flags)) => parked::retry::wish(&flags).await,
        Verb::Parked(Parked::Skip(flags)) => parked::skip::wish(&flags).await,
        Verb::Replay(flags) => replay::wish(&flags).await,
        Verb::ResetCursor(flags) => reset::wish(&flags).await,
        Verb::Withdraw(flags) => withdraw::withdraw(&flags).await,
        Verb::Pause(flags) => pause::pause(&flags).await,
        Verb::Resume(flags) => pause::resume(&flags).await,
        Verb::Drain(flags) => drain::drain(&flags).await,
        Verb::Doctor(flags) => doctor::examine(&flags).await,
        Verb::Prepare(flags) => prepare::print(&flags),
    }
}
