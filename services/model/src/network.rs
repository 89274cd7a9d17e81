//! The network between the services, from the tamest to the worst. It loses nothing: an outbox keeps what Kafka has not got,
//! and an offset is committed after the work.

use crate::{message::Message, routes::Service};

/// What the network may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Network {
    /// Kafka on a good day: each topic hands over the messages of a key in order, once.
    Fifo,
    /// In order, but a consumer may begin a topic again from the start: a crash, or offsets that were reset. Once in a
    /// history.
    Replaying,
    /// Each message once, in any order.
    Reordering,
    /// In any order, and as often as it likes: what was sent once may come at any time, for ever.
    Duplicating,
}

impl Network {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Fifo, Self::Replaying, Self::Reordering, Self::Duplicating];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fifo => "FIFO",
            Self::Replaying => "replaying",
            Self::Reordering => "reordering",
            Self::Duplicating => "duplicating",
        }
    }

    fn keeps_order(self) -> bool {
        matches!(self, Self::Fifo | Self::Replaying)
    }
}

/// A message on its way to one service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Letter {
    /// To whom.
    pub to: Service,
    /// What.
    pub message: Message,
}

/// One key of one topic, as one service reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Channel {
    /// Who reads.
    pub reader: Service,
    /// The topic.
    pub topic: &'static str,
    /// The order; none for the product.
    pub order: Option<u8>,
}

impl Letter {
    /// Where it waits.
    pub fn channel(&self) -> Channel {
        let topic = self.message.body.kind().topic;
        Channel { reader: self.to, topic, order: self.message.order }
    }
}

/// Everything that is on its way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Post {
    /// By channel where order matters, else sorted: so equal posts are equal.
    waiting: Vec<Letter>,
    /// What a channel that begins again would hand over before what waits.
    handled: Vec<Letter>,
    replays: u8,
}

impl Post {
    /// Nothing yet.
    pub fn new(network: Network) -> Self {
        let replays = u8::from(network == Network::Replaying);
        Self { waiting: Vec::new(), handled: Vec::new(), replays }
    }

    /// Sends one.
    pub fn send(&mut self, network: Network, letter: Letter) {
        if network.keeps_order() {
            append(&mut self.waiting, letter);
            return;
        }
        match self.waiting.binary_search(&letter) {
            Ok(_) if network == Network::Duplicating => {}
            Ok(at) | Err(at) => self.waiting.insert(at, letter),
        }
    }

    /// What may arrive next.
    pub fn next(&self, network: Network) -> Vec<Letter> {
        let mut next = self.waiting.clone();
        if network.keeps_order() {
            next.dedup_by_key(|letter| letter.channel());
        } else {
            next.dedup();
        }
        next
    }

    /// One has arrived, and been worked on.
    pub fn hand_over(&mut self, network: Network, letter: Letter) {
        if network == Network::Duplicating {
            return;
        }
        // The first: the others of its channel wait behind it.
        if let Some(at) = self.waiting.iter().position(|waiting| *waiting == letter) {
            self.waiting.remove(at);
        }
        if self.replays > 0 {
            append(&mut self.handled, letter);
        }
    }

    /// The channels that may begin again.
    pub fn replayable(&self) -> Vec<Channel> {
        let mut channels: Vec<_> = self.handled.iter().map(Letter::channel).collect();
        channels.dedup();
        channels
    }

    /// One begins again.
    pub fn replay(&mut self, channel: Channel) {
        let again = self.handled.iter().filter(|letter| letter.channel() == channel).copied();
        let (before, rest): (Vec<_>, Vec<_>) =
            self.waiting.iter().partition(|letter| letter.channel() < channel);
        self.waiting = before.into_iter().chain(again).chain(rest).collect();
        self.handled.clear();
        self.replays -= 1;
    }

    /// Whether nothing waits. Where messages come for ever, never once something was sent.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

/// Behind everything of its channel, the channels sorted.
fn append(letters: &mut Vec<Letter>, letter: Letter) {
    let channel = letter.channel();
    let at = letters.partition_point(|earlier| earlier.channel() <= channel);
    letters.insert(at, letter);
}
