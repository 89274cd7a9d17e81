//! A consumer's instruments as OpenTelemetry's messaging conventions have them: once per batch, with attributes made beforehand.

use std::time::Duration;

use opentelemetry::KeyValue;
use rdkafka::error::KafkaError;

use crate::{
    inbox::{Record, Report},
    metrics,
    trail::Outcome,
};

/// The attributes of one consumer.
#[derive(Debug)]
pub(crate) struct Consumption {
    polling: Vec<KeyValue>,
    processing: Vec<KeyValue>,
    /// Polling of each topic.
    topics: Vec<(&'static str, Vec<KeyValue>)>,
}

impl Consumption {
    pub(crate) fn new(group: &str, topics: impl Iterator<Item = &'static str>) -> Self {
        let of = |operation, kind| {
            vec![
                KeyValue::new("messaging.system", "kafka"),
                KeyValue::new("messaging.operation.name", operation),
                KeyValue::new("messaging.operation.type", kind),
                KeyValue::new("messaging.consumer.group.name", group.to_owned()),
            ]
        };
        let polling = of("poll", "receive");
        let topic = |topic| {
            let mut polling = polling.clone();
            polling.push(KeyValue::new("messaging.destination.name", topic));
            (topic, polling)
        };
        Self { topics: topics.map(topic).collect(), processing: of("process", "process"), polling }
    }

    /// A poll has brought these messages; it may have waited long for the first one.
    pub(crate) fn polled(&self, batch: &[Record], took: Duration) {
        let instruments = metrics::instruments();
        instruments.operation_duration.record(took.as_secs_f64(), &self.polling);
        for (topic, attributes) in &self.topics {
            let consumed = batch.iter().filter(|record| record.topic == *topic).count();
            instruments.consumed.add(consumed as u64, attributes);
        }
    }

    /// A poll has failed, so long after the last one that did not.
    pub(crate) fn failed(&self, error: &KafkaError, took: Duration) {
        let code = error.rdkafka_error_code();
        let code = code.map_or_else(|| "_OTHER".to_owned(), |code| format!("{code:?}"));
        let attributes = [self.polling.as_slice(), &[KeyValue::new("error.type", code)]].concat();
        metrics::instruments().operation_duration.record(took.as_secs_f64(), &attributes);
    }

    /// A batch is committed.
    pub(crate) fn handled(&self, report: &Report, took: Duration) {
        let instruments = metrics::instruments();
        instruments.process_duration.record(took.as_secs_f64(), &self.processing);
        for (outcome, count) in &report.outcomes {
            instruments.messages.add(*count as u64, &[KeyValue::new("outcome", outcome.as_str())]);
        }
        instruments.messages.add(report.unknown as u64, &[KeyValue::new("outcome", "unknown")]);
        instruments.duplicates.add(report.count(Outcome::Duplicate) as u64, &[]);
    }
}
