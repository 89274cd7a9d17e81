//! The command line. Every flag can be given by its environment variable.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::datadir;
use crate::error::{Error, Result};
use crate::jaeger::Backend;
use crate::options::{self, Options, Setting};
use crate::ports::Ports;
use crate::progress::Progress;
use crate::{demo, events, guard, health, infra, provision, reset, seed, trace, up};

/// Orders that settle: the whole shop on one machine, on a real Postgres and a real Apache Kafka.
#[derive(Debug, Parser)]
#[command(name = "settle", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Start everything, and run until Ctrl-C; the data stays for the next time.
    ///
    /// Starts Postgres (found on the machine, or Debian's package), Apache Kafka (downloaded once; needs Java 17), the
    /// services and the relay, makes what they need, and fills the catalogue with five products.
    Up {
        #[command(flatten)]
        data: Data,
        #[command(flatten)]
        cache: Cache,
        /// Use the Kafka at this address instead of starting one.
        #[arg(long, value_name = "HOST:PORT", env = "SETTLE_KAFKA")]
        kafka: Option<String>,
        /// Trace everything: start the `jaeger` that is on the PATH or was built by deploy/jaeger/build, or send spans to the
        /// OTLP collector at this address ("own" is the same as no address).
        #[arg(long, value_name = "URL", env = "SETTLE_JAEGER")]
        #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "own")]
        jaeger: Option<Backend>,
        #[command(flatten)]
        ports: Ports,
        /// Take any free ports.
        #[arg(long)]
        free_ports: bool,
        /// Allow the demonstration switches: the operator's page can stop services from consuming, and refuse deliveries.
        #[arg(long, env = "SETTLE_DEMO")]
        demo: bool,
    },
    /// Print every event on every topic as it happens: time, type, order, cause, payload.
    Events {
        #[command(flatten)]
        kafka: RunningKafka,
        #[command(flatten)]
        filter: events::Filter,
    },
    /// Show what happened for an order and what caused what, from the services' own trails.
    ///
    /// A tree: calls and timers, the events they emitted, who handled each, what came of it, and how long it waited on its
    /// way, in milliseconds. Needs no tracing backend; trails are kept for 30 days. What no service has handled is "emitted,
    /// not seen": it is still on its way, or concerns nobody. What was sent again, as a command without an answer, is shown
    /// where it was sent first, with how often (`sent` in JSON). Services that do not answer are named (`notAsked` in JSON);
    /// the exit code is 1 when none answers or none knows the order.
    Trace {
        #[command(flatten)]
        question: trace::Question,
        #[command(flatten)]
        ports: Ports,
    },
    /// Place, watch, cancel and run out of stock against a running shop, and show the events as they pass.
    Demo {
        #[command(flatten)]
        kafka: RunningKafka,
        #[command(flatten)]
        ports: Ports,
    },
    /// Forget all data; the next start begins anew.
    Reset {
        #[command(flatten)]
        data: Data,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Run a command with a fresh Postgres and Kafka, and remove both afterwards.
    ///
    /// They run on free ports in a temporary directory. The command finds them in SETTLE_TEST_POSTGRES (a superuser's
    /// URL) and SETTLE_TEST_KAFKA (a bootstrap address; its version is in SETTLE_TEST_KAFKA_VERSION), and what it needs to
    /// start a Kafka of its own in SETTLE_TEST_KAFKA_JARS (a directory) and SETTLE_TEST_JAVA (the program); its exit code
    /// is passed on. Without a command they run until Ctrl-C.
    Infra {
        #[command(flatten)]
        cache: Cache,
        /// Run a Jaeger too; its API is in JAEGER_URL, what takes spans for it in JAEGER_OTLP_URL.
        #[arg(long)]
        jaeger: bool,
        /// Start Postgres with this setting, for example wal_level=logical; repeat it for several.
        #[arg(long = "postgres-setting", value_name = "NAME=VALUE")]
        postgres_settings: Vec<Setting>,
        /// The command and its arguments.
        #[arg(last = true)]
        command: Vec<OsString>,
    },
    /// Make the topics in a Kafka, for a deployment that is not `settle up`; those that exist stay.
    Topics {
        #[command(flatten)]
        kafka: RunningKafka,
    },
    /// Fill the catalogue with five products, for a deployment that is not `settle up`; those that exist stay.
    Seed {
        /// Where products answers.
        #[arg(
            long,
            value_name = "URL",
            env = "PRODUCTS_URL",
            default_value = "http://127.0.0.1:8085"
        )]
        products_url: String,
        /// Where orders answers.
        #[arg(
            long,
            value_name = "URL",
            env = "ORDERS_URL",
            default_value = "http://127.0.0.1:8081"
        )]
        orders_url: String,
    },
    /// Say whether GET /readyz on a loopback port answers 200; for the health checks of containers.
    Ready { port: u16 },
    /// Wait for the end of a pipe, then end what still runs in a data directory.
    #[command(hide = true)]
    Guard {
        dir: PathBuf,
        #[arg(long)]
        remove: bool,
    },
}

#[derive(Debug, Args)]
struct Data {
    /// Where the data is kept [default: ~/.local/share/settle, for root /var/lib/settle].
    #[arg(long, value_name = "DIR", env = "SETTLE_DATA_DIR")]
    #[arg(default_value_os_t = datadir::default_data_dir(), hide_default_value = true)]
    data_dir: PathBuf,
}

#[derive(Debug, Args)]
struct RunningKafka {
    /// Kafka's address.
    #[arg(long, value_name = "HOST:PORT", env = "SETTLE_KAFKA", default_value = "127.0.0.1:9092")]
    kafka: String,
}

#[derive(Debug, Args)]
struct Cache {
    /// Where downloads are kept [default: ~/.cache/settle].
    #[arg(long, value_name = "DIR", env = "SETTLE_CACHE_DIR")]
    #[arg(default_value_os_t = datadir::default_cache_dir(), hide_default_value = true)]
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
    let progress = Progress::to_stderr();
    match verb {
        Verb::Up { data, cache, kafka, jaeger, ports, free_ports, demo } => {
            let ports = if free_ports { Ports::FREE } else { ports };
            let programs = options::programs_beside_us()?;
            let cache = cache.cache_dir;
            let postgres_settings = Vec::new();
            let options = Options {
                programs,
                cache,
                ports,
                kafka,
                jaeger,
                demo,
                postgres_settings,
                kafka_detour: None,
            };
            Box::pin(up::run(&data.data_dir, &options, &progress)).await
        }
        Verb::Events { kafka, filter } => events::run(&kafka.kafka, filter, &progress).await,
        Verb::Trace { question, ports } => trace::run(&ports, question).await,
        Verb::Demo { kafka, ports } => Box::pin(demo::run(&ports, &kafka.kafka)).await,
        Verb::Reset { data, yes } => reset::run(&data.data_dir, yes, &progress).await,
        Verb::Infra { cache, jaeger, postgres_settings, command } => {
            let (cache, jaeger) = (cache.cache_dir, jaeger.then_some(Backend::Own));
            let options = Options { cache, jaeger, postgres_settings, ..Options::on_free_ports()? };
            Box::pin(infra::run(&command, &options, &progress)).await
        }
        Verb::Topics { kafka } => provision::topics(&kafka.kafka).await.map(|()| ExitCode::SUCCESS),
        Verb::Seed { products_url, orders_url } => {
            seed::catalogue(&products_url, &orders_url).await.map(|()| ExitCode::SUCCESS)
        }
        Verb::Ready { port } => Ok(if health::ready_by_http(port).await {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }),
        Verb::Guard { dir, remove } => guard::run(&dir, remove).map(|()| ExitCode::SUCCESS),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse(line: &str) -> Result<Verb, clap::Error> {
        Cli::try_parse_from(line.split_whitespace()).map(|cli| cli.verb)
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_port_and_the_directories_can_be_chosen() {
        let line = "settle up --data-dir /d --cache-dir /c --kafka k:1 --postgres-port 2 --relay-port 3 \
                    --products-port 4 --delivery-port 5 --orders-port 6 --jaeger-port 7 --otlp-port 8 --storefront-port 9 --demo";
        let Ok(Verb::Up { data, cache, kafka, jaeger: None, ports, free_ports: false, demo: true }) =
            parse(line)
        else {
            panic!("the line should be understood");
        };
        assert_eq!((data.data_dir, cache.cache_dir), (PathBuf::from("/d"), PathBuf::from("/c")));
        assert_eq!(kafka.as_deref(), Some("k:1"));
        let Ports { postgres, relay, products, delivery, orders, jaeger, otlp, storefront, .. } =
            ports;
        assert_eq!((postgres, relay, products, delivery, orders), (2, 3, 4, 5, 6));
        assert_eq!((jaeger, otlp, storefront), (7, 8, 9));
    }

    #[test]
    fn a_jaeger_is_our_own_or_at_an_address() {
        let jaeger = |flag: &str| match parse(&format!("settle up {flag}")) {
            Ok(Verb::Up { jaeger, .. }) => jaeger,
            _ => panic!("{flag} should be understood"),
        };
        assert_eq!(jaeger("--jaeger --free-ports"), Some(Backend::Own));
        assert_eq!(jaeger("--jaeger=own"), Some(Backend::Own));
        assert_eq!(jaeger("--jaeger=http://h:1"), Some(Backend::At("http://h:1".to_owned())));
        for wrong in ["", "h:1", "localhost", "ftp://h:1", "http://"] {
            let refused = parse(&format!("settle up --jaeger={wrong}")).unwrap_err().to_string();
            assert!(refused.contains("http://127.0.0.1:4317"), "{wrong}: {refused}");
        }
    }

    #[test]
    fn the_command_of_infra_follows_two_dashes() {
        let Ok(Verb::Infra { command, .. }) = parse("settle infra -- cargo test --workspace")
        else {
            panic!("the line should be understood");
        };
        assert_eq!(command, ["cargo", "test", "--workspace"]);
        assert!(parse("settle infra cargo").is_err());
    }

    #[test]
    fn a_setting_of_postgres_has_a_name_and_a_value() {
        let line = "settle infra --postgres-setting wal_level=logical --postgres-setting a=";
        let Ok(Verb::Infra { postgres_settings, .. }) = parse(line) else {
            panic!("the line should be understood");
        };
        let texts: Vec<_> = postgres_settings.iter().map(Setting::as_str).collect();
        assert_eq!(texts, ["wal_level=logical", "a="]);
        for wrong in ["wal_level", "=logical"] {
            let refused = parse(&format!("settle infra --postgres-setting {wrong}"));
            assert!(refused.unwrap_err().to_string().contains("name=value"), "{wrong}");
        }
    }

    #[test]
    fn an_unknown_verb_and_a_port_that_is_none_are_refused() {
        assert!(parse("settle down").is_err());
        assert!(parse("settle up --orders-port 70000").is_err());
    }
}
