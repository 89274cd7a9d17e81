//! The command line: the verbs and their flags as clap sees them. What each does is in [`crate::verbs`].

use std::{str::FromStr, time::Duration};

use chrono::{DateTime, Utc};
use clap::{Args, Parser, Subcommand, ValueEnum, builder::PossibleValuesParser};

use crate::{
    Config,
    broker::Broker,
    config::{Sources, duration},
    shards::Shards,
    verdict::Reason,
};

/// Ships the outbox tables of one or several Postgres databases to Kafka, and looks after them.
#[derive(Debug, Parser)]
#[command(name = "outbox-relay", version, about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Ship until told to stop by SIGTERM or SIGINT.
    Run(Box<Config>),
    /// Show who ships what, how much is unsent, what is parked, and how full the ring is.
    Status(Status),
    /// Look after the events that Kafka has refused, and the later ones of their keys.
    #[command(subcommand)]
    Parked(Parked),
    /// Send again every row that is still in the ring from one on.
    Replay(Replay),
    /// Begin at either end of the outbox: send all that is there again, or nothing of it.
    ResetCursor(ResetCursor),
    /// Take wishes back that no relay has carried out yet: of `replay`, `reset-cursor`, `parked retry` and `parked skip`.
    Withdraw(Withdraw),
    /// Hold shards back until they are resumed; their rows wait in Postgres.
    Pause(Pause),
    /// Let paused shards and drained relays go on: all of both, unless told which.
    Resume(Resume),
    /// Make a relay hand over its shards and take no others until it is resumed.
    Drain(Drain),
    /// Check everything that the relay relies on; exit code 1 if something fails.
    Doctor(Doctor),
    /// Print the SQL that makes a mapped outbox table fit for the relay; it is run by whoever owns the table.
    Prepare(Prepare),
}

/// Which databases.
#[derive(Debug, Args)]
pub struct Databases {
    /// Which there are.
    #[command(flatten)]
    pub given: Sources,

    /// Only the source of this name; repeat for several.
    #[arg(long, value_name = "NAME")]
    pub only: Vec<String>,
}

/// How long to wait for the relay that is to carry a wish out.
#[derive(Debug, Args)]
pub struct Patience {
    /// How long to wait until the relay has done it; 0 returns at once.
    #[arg(long, default_value = "10s", value_parser = wait)]
    pub wait: Duration,
}

/// Whether a person has to be asked.
#[derive(Debug, Args)]
pub struct Consent {
    /// Do not ask.
    #[arg(long)]
    pub yes: bool,
}

/// The flags of `status`.
#[derive(Debug, Args)]
pub struct Status {
    /// Which databases.
    #[command(flatten)]
    pub databases: Databases,
    /// All 64 shards, each in a line of its own.
    #[arg(long)]
    pub shards: bool,
    /// As JSON.
    #[arg(long)]
    pub json: bool,
}

/// What to do with parked events.
#[derive(Debug, Subcommand)]
pub enum Parked {
    /// List the parked keys, oldest first.
    List(ParkedList),
    /// Show one parked row with its headers and its payload.
    Show(ParkedShow),
    /// Try the first row of keys again, and what is behind it once it has gone.
    Retry(ParkedRetry),
    /// Drop the first row of a key, so that those behind it go; the row is printed as JSON.
    Skip(ParkedSkip),
}

/// The flags of `prepare`.
#[derive(Debug, Args)]
pub struct Prepare {
    /// Which databases.
    #[command(flatten)]
    pub databases: Databases,
    /// The other way: a trigger that copies every inserted row to the relay's own table.
    #[arg(long)]
    pub copying: bool,
}

/// The flags of `parked list`.
#[derive(Debug, Args)]
pub struct ParkedList {
    /// Which databases.
    #[command(flatten)]
    pub databases: Databases,
    /// Only this key.
    #[arg(long)]
    pub key: Option<String>,
    /// Only keys whose first row goes to this topic.
    #[arg(long)]
    pub topic: Option<String>,
    /// Only keys whose first row is parked for this reason.
    #[arg(long, value_parser = PossibleValuesParser::new(Reason::ALL.map(Reason::label)))]
    pub reason: Option<String>,
    /// How many keys.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..))]
    pub limit: i64,
    /// Only keys whose first row comes after this sequence number: the next page.
    #[arg(long, value_name = "SEQ", default_value_t = 0)]
    pub after: i64,
    /// As JSON.
    #[arg(long)]
    pub json: bool,
}

/// The flags of `parked show`.
#[derive(Debug, Args)]
pub struct ParkedShow {
    /// Which database.
    #[command(flatten)]
    pub databases: Databases,
    /// Which row.
    #[command(flatten)]
    pub row: ParkedRow,
    /// As JSON.
    #[arg(long)]
    pub json: bool,
}

/// A parked row, by its number or as the first of its key.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct ParkedRow {
    /// The row of this sequence number.
    #[arg(long)]
    pub seq: Option<i64>,
    /// The first row of this key.
    #[arg(long)]
    pub key: Option<String>,
}

/// The flags of `parked retry`.
#[derive(Debug, Args)]
pub struct ParkedRetry {
    /// Which database.
    #[command(flatten)]
    pub databases: Databases,
    /// Which keys.
    #[command(flatten)]
    pub keys: ParkedKeys,
    /// How long to wait.
    #[command(flatten)]
    pub patience: Patience,
}

/// Which parked keys.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct ParkedKeys {
    /// This key.
    #[arg(long)]
    pub key: Option<String>,
    /// Every key whose first row goes to this topic.
    #[arg(long)]
    pub topic: Option<String>,
    /// Every key.
    #[arg(long)]
    pub all: bool,
}

/// The flags of `parked skip`.
#[derive(Debug, Args)]
pub struct ParkedSkip {
    /// Which database.
    #[command(flatten)]
    pub databases: Databases,
    /// The key whose first row is dropped.
    #[arg(long)]
    pub key: String,
    /// The number that this row must have, so that no other is dropped by mistake.
    #[arg(long)]
    pub seq: Option<i64>,
    /// Whether to ask.
    #[command(flatten)]
    pub consent: Consent,
    /// How long to wait.
    #[command(flatten)]
    pub patience: Patience,
}

/// The flags of `replay`.
#[derive(Debug, Args)]
pub struct Replay {
    /// Which database.
    #[command(flatten)]
    pub databases: Databases,
    /// The first row: a sequence number, or the first that was written at or after a time such as 2026-11-23T14:05:00Z.
    #[arg(long, value_name = "SEQ|TIME")]
    pub from: From,
    /// Only these shards.
    #[arg(long, default_value_t = Shards::ALL)]
    pub shards: Shards,
    /// Whether to ask.
    #[command(flatten)]
    pub consent: Consent,
    /// How long to wait.
    #[command(flatten)]
    pub patience: Patience,
}

/// Where a replay begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// With this row.
    Seq(i64),
    /// With the first row that was written at this time or later.
    Time(DateTime<Utc>),
}

impl FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(seq) = text.parse() {
            return Ok(Self::Seq(seq));
        }
        let time = DateTime::parse_from_rfc3339(text).map_err(|_| {
            "neither a sequence number nor a time such as 2026-11-23T14:05:00Z".to_owned()
        })?;
        Ok(Self::Time(time.to_utc()))
    }
}

/// The flags of `reset-cursor`.
#[derive(Debug, Args)]
pub struct ResetCursor {
    /// Which database.
    #[command(flatten)]
    pub databases: Databases,
    /// Where to begin: with the oldest row of the ring, or with what is committed from now on.
    #[arg(long)]
    pub to: End,
    /// Only these shards.
    #[arg(long, default_value_t = Shards::ALL)]
    pub shards: Shards,
    /// Whether to ask.
    #[command(flatten)]
    pub consent: Consent,
    /// How long to wait.
    #[command(flatten)]
    pub patience: Patience,
}

/// An end of the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum End {
    /// The oldest row that is still there.
    Earliest,
    /// Behind the newest.
    Latest,
}

/// The flags of `withdraw`.
#[derive(Debug, Args)]
pub struct Withdraw {
    /// Which databases.
    #[command(flatten)]
    pub databases: Databases,
    /// Only what is wished of the cursors of these shards, as 0-20,35.
    #[arg(long, conflicts_with = "key")]
    pub shards: Option<Shards>,
    /// Only what is wished of the parked rows of this key.
    #[arg(long)]
    pub key: Option<String>,
}

/// The flags of `pause`.
#[derive(Debug, Args)]
pub struct Pause {
    /// Which databases.
    #[command(flatten)]
    pub databases: Databases,
    /// Which shards, as 0-20,35.
    #[arg(long, default_value_t = Shards::ALL)]
    pub shards: Shards,
    /// How long to wait.
    #[command(flatten)]
    pub patience: Patience,
}

/// The flags of `resume`.
#[derive(Debug, Args)]
pub struct Resume {
    /// Which databases.
    #[command(flatten)]
    pub databases: Databases,
    /// Only these shards, as 0-20,35.
    #[arg(long, conflicts_with = "relay")]
    pub shards: Option<Shards>,
    /// Only the relays of this name.
    #[arg(long, value_name = "NAME")]
    pub relay: Option<String>,
    /// How long to wait.
    #[command(flatten)]
    pub patience: Patience,
}

/// The flags of `drain`.
#[derive(Debug, Args)]
pub struct Drain {
    /// Which databases.
    #[command(flatten)]
    pub databases: Databases,
    /// Only the relays of this name.
    #[arg(long, value_name = "NAME")]
    pub relay: Option<String>,
    /// How long to wait until they own nothing; exit code 1 if they still do.
    #[arg(long, default_value = "60s", value_parser = wait)]
    pub timeout: Duration,
}

/// The flags of `doctor`.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Which databases.
    #[command(flatten)]
    pub databases: Databases,
    /// Kafka's bootstrap servers; without them Kafka is not looked at.
    #[arg(long, env = "KAFKA_BOOTSTRAP_SERVERS")]
    pub kafka: Option<String>,
    /// How Kafka is reached, and as whom.
    #[command(flatten)]
    pub broker: Broker,
    /// Look at what exactly-once mode needs as well.
    #[arg(long, env = "RELAY_EXACTLY_ONCE", default_value_t = false)]
    pub exactly_once: bool,
    /// The topic of the notes in exactly-once mode.
    #[arg(long, env = "RELAY_MARKERS_TOPIC", default_value = "outbox-relay.markers")]
    pub markers_topic: String,
    /// As JSON.
    #[arg(long)]
    pub json: bool,
}

fn wait(text: &str) -> Result<Duration, String> {
    if text == "0" { Ok(Duration::ZERO) } else { duration(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn a_replay_begins_with_a_number_or_a_time() {
        assert_eq!("42".parse(), Ok(From::Seq(42)));
        let time = DateTime::from_timestamp(1_000_000_000, 0).unwrap();
        assert_eq!("2001-09-09T03:46:40+02:00".parse(), Ok(From::Time(time)));
        assert!("yesterday".parse::<From>().is_err());
    }

    #[test]
    fn a_verb_needs_a_source_and_takes_whole_answers_only() {
        assert!(parse("outbox-relay status").is_err());
        let on = |rest: &str| parse(&format!("outbox-relay {rest} --source a=postgres://h/a"));
        assert!(on("pause --shards 0-20,35").is_ok());
        for refused in [
            "pause --shards 64",
            "parked retry",
            "parked retry --all --key k",
            "parked list --reason ugly",
            "resume --relay r --shards 1",
            "withdraw --shards 1 --key k",
            "reset-cursor --to the-middle",
        ] {
            assert!(on(refused).is_err(), "{refused}");
        }
    }

    /// The commands of a page, one word after the other; what a shell does with them is left out.
    fn commands(page: &str) -> impl Iterator<Item = Vec<String>> {
        let page = page.replace("\\\n", " ").replace("$ outbox-relay", "outbox-relay");
        let lines = page.lines().map(|line| line.replace("# The databases of one relay: ", ""));
        let commands: Vec<String> = lines
            .map(|line| line.replace("cargo run -p outbox-relay --", "outbox-relay"))
            .filter(|line| line.starts_with("outbox-relay "))
            .collect();
        commands.into_iter().map(|command| {
            let words = command.split_whitespace().take_while(|word| *word != ">");
            words.map(|word| word.replace('"', "")).collect()
        })
    }

    #[test]
    fn every_command_of_the_documents_is_one() {
        let example = concat!(env!("CARGO_MANIFEST_DIR"), "/relay.example.toml");
        let pages = [include_str!("../README.md"), include_str!("../relay.example.toml")];
        let commands: Vec<_> = pages.iter().flat_map(|page| commands(page)).collect();
        assert!(commands.len() >= 10, "{commands:?}");
        for mut words in commands {
            for word in &mut words {
                if word.ends_with(".toml") {
                    example.clone_into(word);
                }
            }
            // What the documents have put into the environment before.
            words.extend(["--source", "other=postgres://h/other"].map(str::to_owned));
            if words.get(1).is_some_and(|verb| verb == "run")
                && !words.contains(&"--kafka".to_owned())
            {
                words.extend(["--kafka", "k:9092"].map(str::to_owned));
            }
            if let Err(error) = Cli::try_parse_from(&words) {
                panic!("{}: {error}", words.join(" "));
            }
        }
    }

    #[test]
    fn the_readme_names_every_verb() {
        use clap::CommandFactory;
        let readme = include_str!("../README.md");
        let command = Cli::command();
        let parked = command.find_subcommand("parked").unwrap();
        let verbs = command.get_subcommands().chain(parked.get_subcommands());
        for verb in verbs.map(clap::Command::get_name) {
            let row = readme.lines().find(|line| {
                line.starts_with("| `")
                    && line.split('|').nth(1).is_some_and(|cell| cell.contains(&format!("{verb}`")))
            });
            assert!(row.is_some() || verb == "parked", "{verb}");
        }
    }
}
