//! The command line. Every flag can be given by its environment variable.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::datadir;
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::stack::Options;
use crate::{guard, infra};

/// Orders that settle: the whole shop on one machine, on a real Postgres and a real Apache Kafka.
#[derive(Debug, Parser)]
#[command(name = "settle", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run a command with a fresh Postgres and Kafka, and remove both afterwards.
    ///
    /// They run on free ports in a temporary directory. The command finds them in SETTLE_TEST_POSTGRES (a superuser's
    /// URL) and SETTLE_TEST_KAFKA (a bootstrap address); its exit code is passed on. Without a command they run until
    /// Ctrl-C.
    Infra {
        #[command(flatten)]
        cache: Cache,
        /// The command and its arguments.
        #[arg(last = true)]
        command: Vec<OsString>,
    },
    /// Wait for the end of a pipe, then end what still runs in a data directory.
    #[command(hide = true)]
    Guard {
        dir: PathBuf,
        #[arg(long)]
        remove: bool,
    },
}

#[derive(Debug, Args)]
struct Cache {
    /// Where downloads are kept [default: ~/.cache/settle].
    #[arg(long, env = "SETTLE_CACHE_DIR", default_value_os_t = datadir::default_cache_dir(), hide_default_value = true)]
    cache_dir: PathBuf,
}

/// Runs the command line; its errors end here, on stderr.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let done = runtime
        .map_err(Error::io("start the runtime"))
        .and_then(|runtime| runtime.block_on(run(cli.verb)));
    done.unwrap_or_else(|error| {
        let _ = writeln!(std::io::stderr(), "settle: {:#}", anyhow::Error::new(error));
        ExitCode::FAILURE
    })
}

async fn run(verb: Verb) -> Result<ExitCode> {
    match verb {
        Verb::Infra { cache, command } => {
            let options = Options { cache: cache.cache_dir, ..Options::on_free_ports()? };
            infra::run(&command, &options, &Progress::to_stderr()).await
        }
        Verb::Guard { dir, remove } => guard::run(&dir, remove).map(|()| ExitCode::SUCCESS),
    }
}
