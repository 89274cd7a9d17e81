//! The event of these tests: a text for an order. `T` chooses the topic, so that every Kafka test has one of its own.

use bytes::{Buf, BufMut};
use prost::{
    DecodeError, Message, Name,
    encoding::{DecodeContext, WireType},
};
use proto::event::Event;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

const TOPICS: [&str; 9] = [
    "test.chassis.letters",
    "test.chassis.echoes",
    "test.chassis.rebalance",
    "test.chassis.crash",
    "test.chassis.switch",
    "test.chassis.odd",
    "test.chassis.off",
    "test.chassis.away",
    "test.chassis.polls",
];

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
pub(crate) struct Text {
    #[prost(string, tag = "1")]
    pub(crate) order_id: String,
    #[prost(string, tag = "2")]
    pub(crate) text: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Letter<const T: usize>(pub(crate) Text);

impl<const T: usize> Letter<T> {
    pub(crate) fn new(order_id: Uuid, text: &str) -> Self {
        Self(Text { order_id: order_id.to_string(), text: text.to_owned() })
    }
}

impl<const T: usize> Message for Letter<T> {
    fn encode_raw(&self, buffer: &mut impl BufMut) {
        self.0.encode_raw(buffer);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buffer: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        self.0.merge_field(tag, wire_type, buffer, context)
    }

    fn encoded_len(&self) -> usize {
        self.0.encoded_len()
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

impl<const T: usize> Name for Letter<T> {
    const NAME: &'static str = "Letter";
    const PACKAGE: &'static str = "test.chassis";
}

impl<const T: usize> Event for Letter<T> {
    const TOPIC: &'static str = TOPICS[T];

    fn key(&self) -> &str {
        &self.0.order_id
    }
}

/// What the diary tells after each letter.
pub(crate) type Echo = Letter<1>;
