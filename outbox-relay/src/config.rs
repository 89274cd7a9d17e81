//! The configuration: every setting is an argument and an environment variable, parsed once.
//! Times take a unit (`50ms`, `2s`, `1m`).

use std::{ffi::OsStr, net::SocketAddr, str::FromStr, sync::OnceLock, time::Duration};

use clap::{Args, Parser, builder::TypedValueParser, error::ErrorKind};

use crate::{
    Error, broker::Broker, database::Database, logs::LogFormat, manifest::Manifest, table::Table,
};

/// Ships the outbox tables of one or several Postgres databases to Kafka.
#[derive(Debug, Clone, Parser)]
#[command(name = "outbox-relay", version, about)]
pub struct Config {
    /// What is shipped.
    #[command(flatten)]
    pub given: Sources,

    /// Kafka's bootstrap servers, as host:port, separated by commas.
    #[arg(long, env = "KAFKA_BOOTSTRAP_SERVERS")]
    pub kafka: String,

    /// How Kafka is reached, and as whom.
    #[command(flatten)]
    pub broker: Broker,

    /// Where /metrics, /healthz and /readyz are served.
    #[arg(long, env = "RELAY_LISTEN", default_value = "127.0.0.1:9464")]
    pub listen: SocketAddr,

    /// How to log: auto is text on a terminal and JSON elsewhere.
    #[arg(long, env = "LOG_FORMAT", default_value = "auto")]
    pub log_format: LogFormat,

    /// The OTLP collector that takes the spans, such as http://127.0.0.1:4317; none: no spans. With https:// it needs a
    /// certificate of the system's authorities, or of those in SSL_CERT_FILE. OTEL_EXPORTER_OTLP_HEADERS,
    /// OTEL_EXPORTER_OTLP_COMPRESSION (gzip) and OTEL_EXPORTER_OTLP_TIMEOUT (ms) say how it is called.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    pub otlp_endpoint: Option<String>,

    /// The OTLP collector that takes the metrics too, such as http://127.0.0.1:4317; none: /metrics alone.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT")]
    pub otlp_metrics_endpoint: Option<String>,

    /// How often it gets them, in milliseconds.
    #[arg(long, env = "OTEL_METRIC_EXPORT_INTERVAL", default_value_t = 60_000)]
    pub metric_export_interval: u64,

    /// How the relay and its lease are named in the cursor; a random part is added.
    #[arg(long, env = "RELAY_NAME", default_value = "outbox-relay")]
    pub name: String,

    /// How long an event may wait for Kafka's acknowledgement before its database stops, purges and resumes from the
    /// cursor. Must be shorter than the lease: nothing is sent that could still be on its way when the lease ends.
    #[arg(long, env = "RELAY_DELIVERY_TIMEOUT", default_value = "1s", value_parser = duration)]
    pub delivery_timeout: Duration,

    /// How long a lease lasts without being renewed; other relays then take over its shards.
    #[arg(long, env = "RELAY_LEASE", default_value = "2s", value_parser = duration)]
    pub lease: Duration,

    /// How often the lease is renewed, and how often the other relays are looked at.
    #[arg(long, env = "RELAY_RENEW_EVERY", default_value = "500ms", value_parser = duration)]
    pub renew_every: Duration,

    /// How many rows one read of a long window takes.
    #[arg(long, env = "RELAY_PAGE_ROWS", default_value_t = 5_000, value_parser = clap::value_parser!(u16).range(1..))]
    pub page_rows: u16,

    /// How many bytes may be on their way: handed to Kafka and not yet covered by the recorded cursor. This is also
    /// the most that a crash sends twice.
    #[arg(long, env = "RELAY_IN_FLIGHT_BYTES", default_value_t = 16 << 20)]
    pub in_flight_bytes: usize,

    /// How often the cursor is written while events flow.
    #[arg(long, env = "RELAY_RECORD_EVERY", default_value = "100ms", value_parser = duration)]
    pub record_every: Duration,

    /// The longest pause between two polls of an idle outbox; the first is 1 ms, and each doubles.
    #[arg(long, env = "RELAY_IDLE_POLL", default_value = "50ms", value_parser = duration)]
    pub idle_poll: Duration,

    /// How often acknowledged children of the ring are looked for and truncated.
    #[arg(long, env = "RELAY_ROTATE_EVERY", default_value = "5s", value_parser = duration)]
    pub rotate_every: Duration,

    /// How often the backlog and the age of its oldest row are measured.
    #[arg(long, env = "RELAY_MEASURE_EVERY", default_value = "5s", value_parser = duration)]
    pub measure_every: Duration,

    /// How long the producer waits for a batch to fill.
    #[arg(long, env = "RELAY_LINGER", default_value = "0ms", value_parser = duration)]
    pub linger: Duration,

    /// How batches are compressed: none, gzip, snappy or lz4.
    #[arg(long, env = "RELAY_COMPRESSION", default_value = "lz4")]
    pub compression: String,

    /// Sends every page of events in a Kafka transaction, together with a note of the position: consumers that read
    /// committed events only see each one once. All relays of a database must agree on it.
    #[arg(long, env = "RELAY_EXACTLY_ONCE", default_value_t = false)]
    pub exactly_once: bool,

    /// The topic of the notes in exactly-once mode; made when it is missing.
    #[arg(long, env = "RELAY_MARKERS_TOPIC", default_value = "outbox-relay.markers")]
    pub markers_topic: String,

    /// How long a transaction may take before Kafka ends it. A page is far quicker; a relay that died inside one holds
    /// back readers of committed events for as long.
    #[arg(long, env = "RELAY_TRANSACTION_TIMEOUT", default_value = "10s", value_parser = duration)]
    pub transaction_timeout: Duration,

    /// How long a stopping relay waits for Kafka to acknowledge what is on its way. Must be longer than the delivery
    /// timeout, after which nothing is on its way any more.
    #[arg(long, env = "RELAY_DRAIN", default_value = "5s", value_parser = duration)]
    pub drain: Duration,

    /// Accept a database that was copied to another cluster (a restored dump): every row still in its ring is sent
    /// again. Without it such a database is refused.
    #[arg(long, env = "RELAY_ADOPT_CLUSTER", default_value_t = false)]
    pub adopt_cluster: bool,
}

impl Config {
    /// Refuses settings under which the relay could not keep its promises.
    ///
    /// # Errors
    /// The first rule that is broken, in words.
    pub fn check(&self) -> Result<(), Error> {
        let refuse = |rule: &str| Err(Error::Config(rule.to_owned()));
        if self.delivery_timeout >= self.lease {
            return refuse("--delivery-timeout must be shorter than --lease");
        }
        if self.renew_every * 2 > self.lease - self.delivery_timeout {
            return refuse(
                "--renew-every must be at most half of what --lease is longer than --delivery-timeout",
            );
        }
        if self.linger >= self.delivery_timeout / 4 {
            return refuse("--linger must be shorter than a quarter of --delivery-timeout");
        }
        // Otherwise a stop could give up on what Kafka may still acknowledge, and it would be sent again.
        if self.drain <= self.delivery_timeout {
            return refuse("--drain must be longer than --delivery-timeout");
        }
        if self.exactly_once && self.delivery_timeout > self.transaction_timeout {
            return refuse("--delivery-timeout must not be longer than --transaction-timeout");
        }
        if self.given.all().next().is_none() {
            return refuse("there is no database to ship: give --source or --config");
        }
        self.given.check().map_err(Error::Config)?;
        self.broker.check()
    }

    /// What works and is weaker than it looks, in words.
    pub fn weaknesses(&self) -> Vec<String> {
        let mut weaknesses = self.broker.weaknesses();
        for Source { name, database, .. } in self.given.all() {
            weaknesses.extend(database.weakness().map(|text| format!("source {name}: {text}")));
        }
        weaknesses
    }
}

/// The databases that a command is about.
#[derive(Debug, Clone, Args)]
pub struct Sources {
    /// A database to ship, as name=postgres://user:password@host/database. Repeat for several;
    /// in the environment separated by commas.
    #[arg(
        long = "source",
        env = "RELAY_SOURCES",
        hide_env_values = true,
        value_delimiter = ',',
        value_parser = Quietly,
        required_unless_present = "manifest"
    )]
    sources: Vec<Source>,

    /// A TOML file with more databases, and with the columns of outbox tables that are not ours;
    /// see relay.example.toml.
    #[arg(long = "config", env = "RELAY_CONFIG", value_name = "FILE", value_parser = Manifest::read)]
    manifest: Option<Manifest>,

    /// Verify the certificate and the host name of every database whose URL has no sslmode.
    #[arg(long, env = "RELAY_POSTGRES_TLS", default_value_t = false)]
    postgres_tls: bool,

    /// All of them, once they were asked for.
    #[arg(skip)]
    verified: OnceLock<Vec<Source>>,
}

impl Sources {
    /// Those given by arguments, and those of the file, as they are to be connected to.
    pub fn all(&self) -> impl Iterator<Item = &Source> {
        let named =
            || self.sources.iter().chain(self.manifest.iter().flat_map(|file| &file.sources));
        let verified = |source: &Source| Source {
            database: source.database.clone().verified(),
            ..source.clone()
        };
        let all = self.verified.get_or_init(|| match self.postgres_tls {
            true => named().map(verified).collect(),
            false => named().cloned().collect(),
        });
        all.iter()
    }

    /// Refuses files that cannot be read, and what cannot be shipped side by side.
    ///
    /// # Errors
    /// The first two that are in each other's way, or the first file, in words.
    pub fn check(&self) -> Result<(), String> {
        let sources: Vec<&Source> = self.all().collect();
        for (position, source) in sources.iter().enumerate() {
            for earlier in &sources[..position] {
                source.check_beside(earlier)?;
            }
            let Source { name, place, database, .. } = source;
            database
                .check()
                .map_err(|error| format!("{place}: source {name}: {}", error.chain()))?;
        }
        Ok(())
    }
}

/// One database: the name that logs and metrics call it by, and how to connect.
#[derive(Debug, Clone)]
pub struct Source {
    /// Unique among the sources of one relay.
    pub name: String,
    /// Where the database is, and as whom.
    pub database: Database,
    /// Where its events are.
    pub table: Table,
    /// Where it was given, to find it by: an argument, or a line of a file.
    pub place: String,
}

impl Source {
    /// Two sources of one name would share their metrics, two of one database would fight over its cursor.
    fn check_beside(&self, earlier: &Self) -> Result<(), String> {
        let Self { name, place, .. } = self;
        if earlier.name == *name {
            return Err(format!(
                "{place}: a source {name} is already given by {}: give it another name",
                earlier.place
            ));
        }
        if earlier.database.address() == self.database.address() {
            return Err(format!(
                "{place}: source {name} is the database of source {}, given by {}: remove one of them, they would \
                 fight over one cursor",
                earlier.name, earlier.place
            ));
        }
        Ok(())
    }
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, url) = text.split_once('=').ok_or("a source is written name=postgres://...")?;
        if name.is_empty() || name.contains("://") {
            return Err("a source is written name=postgres://...".to_owned());
        }
        let database = url.parse().map_err(|error| format!("source {name}: {error}"))?;
        let place = "--source".to_owned();
        Ok(Self { name: name.to_owned(), database, table: Table::default(), place })
    }
}

/// Parses a source; where it cannot, what was given is not repeated: it may hold a password.
#[derive(Clone)]
struct Quietly;

impl TypedValueParser for Quietly {
    type Value = Source;

    fn parse_ref(
        &self,
        command: &clap::Command,
        _argument: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<Source, clap::Error> {
        let parsed = value.to_str().ok_or("a source is written in UTF-8".to_owned());
        parsed.and_then(str::parse).map_err(|error| {
            clap::Error::raw(ErrorKind::ValueValidation, format!("--source: {error}\n"))
                .with_cmd(command)
        })
    }
}

/// Reads a time such as `50ms`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let number =
        digits.parse::<u64>().map_err(|_| format!("{text:?} is not a time like 50ms, 2s or 1m"))?;
    match &text[digits.len()..] {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number * 60)),
        unit => Err(format!("{unit:?} is not a unit of time: ms, s or m")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Config {
        let required = [
            "outbox-relay",
            "--source",
            "orders=postgres://a:secret@h/orders",
            "--kafka",
            "k:9092",
        ];
        Config::parse_from(required.iter().chain(arguments))
    }

    #[test]
    fn the_defaults_keep_the_rules() {
        assert!(parse(&[]).check().is_ok());
    }

    #[test]
    fn a_delivery_timeout_as_long_as_the_lease_is_refused() {
        assert!(parse(&["--delivery-timeout", "2s"]).check().is_err());
        assert!(parse(&["--renew-every", "1500ms"]).check().is_err());
        assert!(parse(&["--source", "orders=postgres://b/orders"]).check().is_err());
    }

    #[test]
    fn a_drain_that_may_end_before_a_delivery_does_is_refused() {
        for drain in ["500ms", "1s"] {
            let text = parse(&["--drain", drain]).check().unwrap_err().to_string();
            assert!(text.contains("--drain must be longer than --delivery-timeout"), "{text}");
        }
        assert!(parse(&["--drain", "1001ms"]).check().is_ok());
    }

    #[test]
    fn several_sources_may_share_one_variable() {
        let config = parse(&["--source", "a=postgres://h/a,b=postgres://h/b"]);
        let names: Vec<_> = config.given.all().map(|source| source.name.as_str()).collect();
        assert_eq!(names, ["orders", "a", "b"]);
    }

    #[test]
    fn a_name_or_a_database_given_twice_is_refused_and_both_places_are_named() {
        let example = concat!(env!("CARGO_MANIFEST_DIR"), "/relay.example.toml");
        assert_eq!(parse(&["--source", "x=postgres://127.0.0.1/x"]).given.all().count(), 2);
        let refusal = |source: &str| {
            let arguments =
                ["outbox-relay", "--kafka", "k:9092", "--config", example, "--source", source];
            Config::parse_from(arguments).check().unwrap_err().to_string()
        };
        let same_name = refusal("shop=postgres://h/other");
        assert!(
            same_name.contains("relay.example.toml:11: a source shop is already given by --source"),
            "{same_name}"
        );
        let same_database = refusal("other=postgres://somebody@127.0.0.1/shop");
        assert!(
            same_database
                .contains("relay.example.toml:11: source shop is the database of source other"),
            "{same_database}"
        );
        let alone = ["outbox-relay", "--kafka", "k:9092", "--config", example];
        assert!(Config::parse_from(alone).check().is_ok());
        assert!(Config::try_parse_from(["outbox-relay", "--kafka", "k:9092"]).is_err());
    }

    #[test]
    fn the_readme_names_every_setting_its_variable_and_its_default() {
        use clap::CommandFactory;
        let readme = include_str!("../README.md");
        for argument in Config::command().get_arguments() {
            let (Some(long), Some(variable)) = (argument.get_long(), argument.get_env()) else {
                continue;
            };
            let start = format!("| `--{long}` | `{}` |", variable.to_string_lossy());
            let row = readme.lines().find(|line| line.starts_with(&start)).expect(&start);
            for default in argument.get_default_values() {
                assert!(row.contains(&format!("`{}`", default.to_string_lossy())), "{row}");
            }
        }
    }

    #[test]
    fn a_password_is_not_printed() {
        assert!(!format!("{:?}", parse(&[])).contains("secret"));
        for wrong in
            ["a=postgres://a:secret@h:port/a", "postgres://a:secret@h/a", "a=b:secret@h?x=y"]
        {
            let arguments = ["outbox-relay", "--kafka", "k:9092", "--source", wrong];
            let text = Config::try_parse_from(arguments).unwrap_err().to_string();
            assert!(text.contains("--source") && !text.contains("secret"), "{text}");
        }
    }

    #[test]
    fn postgres_tls_verifies_every_source_that_does_not_say_otherwise() {
        let weaknesses = |arguments: &[&str]| parse(arguments).weaknesses();
        assert!(weaknesses(&[])[0].contains("source orders: its connections may go unencrypted"));
        assert_eq!(weaknesses(&["--postgres-tls"]).len(), 0);
        let told = ["--postgres-tls", "--source", "b=postgres://h/b?sslmode=require"];
        assert!(weaknesses(&told)[0].contains("source b: sslmode=require"));
    }

    #[test]
    fn a_time_without_a_unit_is_refused() {
        assert_eq!(duration("1m"), Ok(Duration::from_secs(60)));
        assert!(duration("5").is_err());
        assert!(duration("ms").is_err());
    }
}
