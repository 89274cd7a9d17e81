//! `settle infra`: Postgres, Kafka and, if asked for, Jaeger in a temporary directory, for as long as a command runs.

use std::ffi::OsString;
use std::process::{ExitCode, ExitStatus};

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tokio::process::Command;

use crate::datadir::DataDir;
use crate::error::{Error, Result};
use crate::jars::{self, Runtime};
use crate::options::Options;
use crate::process::send;
use crate::progress::Progress;
use crate::signals::Stop;
use crate::stack::Stack;

/// What tests read to find the superuser's Postgres URL.
const POSTGRES: &str = "SETTLE_TEST_POSTGRES";
/// What tests read to find Kafka.
const KAFKA: &str = "SETTLE_TEST_KAFKA";
/// What tests read to start a Kafka of their own: the directory with its jars, and the program that runs them.
const KAFKA_JARS: &str = "SETTLE_TEST_KAFKA_JARS";
const JAVA: &str = "SETTLE_TEST_JAVA";
/// What benchmarks read to tell which Kafka that is; a broker does not say so itself.
const KAFKA_VERSION: &str = "SETTLE_TEST_KAFKA_VERSION";
/// What tests read to ask a Jaeger, and to send spans to it.
const JAEGER: &str = "JAEGER_URL";
const JAEGER_OTLP: &str = "JAEGER_OTLP_URL";
/// What tests read to learn that a Jaeger of their own can be started, and from what.
const JAEGER_PROGRAM: &str = "SETTLE_TEST_JAEGER";

/// Runs the command between a start and a stop, or waits for Ctrl-C without one; its exit code is ours.
pub(crate) async fn run(
    command: &[OsString],
    options: &Options,
    progress: &Progress,
) -> Result<ExitCode> {
    let mut stop = Stop::listen()?;
    let dir = DataDir::temporary()?;
    let stack = tokio::select! {
        stack = Stack::infra(dir, options, progress) => stack?,
        _ = stop.asked() => return Err(Error::Interrupted),
    };
    let variables = variables(&stack);
    let exports = variables.iter().map(|(name, value)| format!(" {name}={}", value.display()));
    progress.note(format!("export{}", exports.collect::<String>()));
    let code = match command.split_first() {
        Some((program, arguments)) => {
            let mut command = Command::new(program);
            command.args(arguments).envs(variables);
            supervise(command, &stack, &mut stop).await
        }
        None => tokio::select! {
            _ = stop.asked() => Ok(ExitCode::SUCCESS),
            died = stack.died() => Err(died),
        },
    };
    // The command has the last word.
    stack.stop(&Progress::silent()).await?;
    code
}

fn variables(stack: &Stack) -> Vec<(&'static str, OsString)> {
    let mut variables = vec![
        (POSTGRES, stack.postgres_url().into()),
        (KAFKA, stack.kafka_bootstrap().to_owned().into()),
        (KAFKA_VERSION, jars::KAFKA_VERSION.into()),
    ];
    if let Some(Runtime { java, jars }) = stack.kafka_runtime() {
        variables.push((KAFKA_JARS, jars.clone().into()));
        variables.push((JAVA, java.clone().into()));
    }
    if let Some(jaeger) = stack.jaeger() {
        variables.push((JAEGER_PROGRAM, jaeger.spec().program.clone().into()));
    }
    variables.extend(stack.jaeger_url().map(|url| (JAEGER, url.into())));
    variables.extend(stack.otlp_url().map(|url| (JAEGER_OTLP, url.into())));
    variables
}

async fn supervise(mut command: Command, stack: &Stack, stop: &mut Stop) -> Result<ExitCode> {
    let program = command.as_std().get_program().to_owned();
    let action = || format!("run {}", program.display());
    let mut child = command.kill_on_drop(true).spawn().map_err(Error::io(action()))?;
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
    loop {
        tokio::select! {
            status = child.wait() => return status.map(exit_code).map_err(Error::io(action())),
            died = stack.died() => return Err(died),
            // Ctrl-C reaches the command by itself, the other signal only through us.
            asked = stop.asked() => if let (Signal::SIGTERM, Some(pid)) = (asked, pid) {
                send(pid, Signal::SIGTERM).map_err(Error::io("stop the command"))?;
            },
        }
    }
}

/// A shell's convention for what was ended by a signal.
fn exit_code(status: ExitStatus) -> ExitCode {
    use std::os::unix::process::ExitStatusExt as _;
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
    u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from)
}
