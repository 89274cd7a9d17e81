//! The faults, and their schedule: the same seed gives the same ones in the same order.

use std::{fmt, time::Duration};

use local::Part;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};

use crate::arena::{Link, PROGRAMS};

/// Something that happens to the shop, and is over after a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL, and started again: a program of ours, or Kafka.
    Killed(Part),
    /// SIGSTOP, and SIGCONT after so long.
    Paused(Part, Duration),
    /// Every connection is ended in the middle of what it carries.
    Cut(Link),
    /// Each piece of every connection is held back so long, for a while.
    Slowed(Link, Duration),
    /// Postgres stops and starts: its connections are closed.
    PostgresRestarted,
    /// Postgres stops at once, and recovers from its log.
    PostgresShutAtOnce,
    /// Kafka stops and starts.
    KafkaRestarted,
    /// A service stops, its offsets are set back to the beginning, and it starts.
    Rewound(Part),
    /// A message that nobody can read parks the key of a recent order: the one so far back. What its customer does then waits
    /// behind it, until it is retried in vain and skipped.
    Poisoned(usize),
}

impl Fault {
    /// The kinds, as they are counted.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Killed(Part::Kafka) => "Kafka killed (SIGKILL)",
            Self::Killed(_) => "process killed (SIGKILL)",
            Self::Paused(..) => "process paused (SIGSTOP)",
            Self::Cut(_) => "connections cut",
            Self::Slowed(..) => "connections slowed",
            Self::PostgresRestarted => "Postgres restarted",
            Self::PostgresShutAtOnce => "Postgres shut down at once",
            Self::KafkaRestarted => "Kafka restarted",
            Self::Rewound(_) => "offsets set back to the beginning",
            Self::Poisoned(_) => "key parked by poison, retried, skipped",
        }
    }

    /// What no other fault may hit meanwhile.
    pub(crate) fn holds(self) -> Vec<Hold> {
        match self {
            Self::Killed(part) | Self::Paused(part, _) => vec![Hold::Process(part)],
            Self::Cut(_) => vec![],
            Self::Slowed(link, _) => vec![Hold::Link(link)],
            Self::PostgresRestarted | Self::PostgresShutAtOnce => {
                vec![Hold::Process(Part::Postgres)]
            }
            Self::KafkaRestarted => vec![Hold::Process(Part::Kafka)],
            Self::Rewound(part) => vec![Hold::Process(part), Hold::Process(Part::Kafka)],
            Self::Poisoned(_) => vec![Hold::Process(Part::Kafka), Hold::Operator],
        }
    }
}

/// What a fault has for itself while it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Hold {
    Process(Part),
    Link(Link),
    Operator,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let link = |link: &Link| match link {
            Link::Postgres(part) => format!("{} to Postgres", part.name()),
            Link::Kafka => "all programs to Kafka".to_owned(),
            Link::Calls(part) => format!("callers to {}", part.name()),
        };
        match self {
            Self::Killed(part) => write!(f, "{} killed", part.name()),
            Self::Paused(part, time) => write!(f, "{} paused for {time:?}", part.name()),
            Self::Cut(cut) => write!(f, "the connections of {} cut", link(cut)),
            Self::Slowed(slowed, delay) => {
                write!(f, "the connections of {} slowed by {delay:?}", link(slowed))
            }
            Self::Rewound(part) => write!(f, "the offsets of {} set back", part.name()),
            Self::Poisoned(_) => write!(f, "the key of a recent order poisoned"),
            other => f.write_str(other.kind()),
        }
    }
}

/// One kind of fault in the bag.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Kill,
    Pause,
    Cut,
    Slow,
    PostgresRestart,
    PostgresQuit,
    KafkaRestart,
    KafkaKill,
    Rewind,
    Poison,
}

/// The kinds are drawn from a bag that is filled again when it is empty, so that a short run has them all too.
const BAG: [Kind; 15] = [
    Kind::Kill,
    Kind::Kill,
    Kind::Kill,
    Kind::Pause,
    Kind::Pause,
    Kind::Cut,
    Kind::Cut,
    Kind::Slow,
    Kind::Slow,
    Kind::PostgresRestart,
    Kind::PostgresQuit,
    Kind::KafkaRestart,
    Kind::KafkaKill,
    Kind::Rewind,
    Kind::Poison,
];

/// Faults without end.
#[derive(Debug)]
pub struct Schedule {
    random: StdRng,
    bag: Vec<Kind>,
    every: Duration,
}

impl Schedule {
    /// A fault about `every` so long.
    pub fn new(seed: u64, every: Duration) -> Self {
        Self { random: StdRng::seed_from_u64(seed), bag: Vec::new(), every }
    }

    fn part(&mut self) -> Part {
        PROGRAMS[self.random.random_range(0..PROGRAMS.len())]
    }

    fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.random.random_range(from..=to))
    }
}

impl Iterator for Schedule {
    /// How long to wait, and what happens then.
    type Item = (Duration, Fault);

    fn next(&mut self) -> Option<Self::Item> {
        if self.bag.is_empty() {
            self.bag = BAG.to_vec();
            self.bag.shuffle(&mut self.random);
        }
        let wait = self.every.mul_f64(self.random.random_range(0.5..1.5));
        let link = Link::ALL[self.random.random_range(0..Link::ALL.len())];
        let fault = match self.bag.pop()? {
            Kind::Kill => Fault::Killed(self.part()),
            Kind::Pause => Fault::Paused(self.part(), self.millis(300, 3000)),
            Kind::Cut => Fault::Cut(link),
            Kind::Slow => Fault::Slowed(link, self.millis(10, 200)),
            Kind::PostgresRestart => Fault::PostgresRestarted,
            Kind::PostgresQuit => Fault::PostgresShutAtOnce,
            Kind::KafkaRestart => Fault::KafkaRestarted,
            Kind::KafkaKill => Fault::Killed(Part::Kafka),
            Kind::Rewind => {
                // The relay has no offsets.
                Fault::Rewound(local::SERVICES[self.random.random_range(0..4)])
            }
            Kind::Poison => Fault::Poisoned(self.random.random_range(0..20)),
        };
        Some((wait, fault))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn first(seed: u64, count: usize) -> Vec<(Duration, Fault)> {
        Schedule::new(seed, Duration::from_secs(3)).take(count).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_faults_and_another_gives_others() {
        assert_eq!(first(7, 50), first(7, 50));
        assert_ne!(first(7, 50), first(8, 50));
    }

    #[test]
    fn one_bag_holds_every_kind() {
        let kinds: BTreeSet<_> = first(7, BAG.len()).iter().map(|(_, it)| it.kind()).collect();
        assert_eq!(kinds.len(), 10, "{kinds:?}");
    }
}
