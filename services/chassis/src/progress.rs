//! How far a consumer has come. librdkafka reckons it and tells it whoever polls: a consumer that does not poll any more hears
//! nothing, so how long that has been is shown beside it, measured when somebody looks.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use opentelemetry::{KeyValue, metrics::Meter};
use rdkafka::{
    ClientContext, Statistics, config::RDKafkaLogLevel, consumer::ConsumerContext,
    error::KafkaError,
};

/// What is known of a consumer.
#[derive(Clone, Debug)]
pub struct Progress(Arc<Mutex<Known>>);

#[derive(Debug)]
struct Known {
    lag: HashMap<String, i64>,
    polled: Instant,
}

impl Default for Progress {
    /// Of a consumer that begins now.
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Known { lag: HashMap::new(), polled: Instant::now() })))
    }
}

impl Progress {
    /// How many messages of each topic were not handled when librdkafka last reckoned. A topic is absent while that is not
    /// known, as when all of its partitions are another replica's.
    pub fn lag(&self) -> HashMap<String, i64> {
        self.lock().lag.clone()
    }

    /// How long the consumer has not asked Kafka for messages, to a second: that often it hears of its progress.
    pub fn since_poll(&self) -> Duration {
        self.lock().polled.elapsed()
    }

    /// Shows both as gauges, for as long as the process runs.
    pub(crate) fn show(&self, meter: &Meter) {
        let (of_lag, of_polls) = (self.clone(), self.clone());
        meter
            .i64_observable_gauge("messaging.consumer.lag")
            .with_description("Messages that are not handled yet, by topic; absent while unknown")
            .with_callback(move |observer| {
                for (topic, messages) in of_lag.lag() {
                    let topic = KeyValue::new("messaging.destination.name", topic);
                    observer.observe(messages, &[topic]);
                }
            })
            .build();
        meter
            .f64_observable_gauge("messaging.consumer.last_poll.age")
            .with_unit("s")
            .with_description(
                "Since the consumer last asked Kafka; until then its lag stands still",
            )
            .with_callback(move |observer| {
                observer.observe(of_polls.since_poll().as_secs_f64(), &[]);
            })
            .build();
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Progress {
    /// librdkafka repeats itself while a broker is away; what matters is said by the consumer, once.
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(?level, facility, message, "librdkafka");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "librdkafka");
    }

    /// Called every second, in the middle of a poll.
    fn stats(&self, statistics: Statistics) {
        let lag = statistics.topics.into_iter().filter_map(|(name, topic)| {
            let known = topic
                .partitions
                .values()
                .map(|partition| partition.consumer_lag)
                .filter(|lag| *lag >= 0);
            // None while no partition's is known.
            known.reduce(|one, other| one + other).map(|lag| (name, lag))
        });
        *self.lock() = Known { lag: lag.collect(), polled: Instant::now() };
    }
}

impl ConsumerContext for Progress {}

#[cfg(test)]
mod tests {
    use opentelemetry::metrics::MeterProvider as _;
    use rdkafka::statistics::{Partition, Topic};

    use super::*;
    use crate::metrics::tests::{provider, values};

    /// A topic of which each partition is so far behind; -1 is librdkafka's word for not known.
    fn reckoned(lags: &[i64]) -> Statistics {
        let partition = |lag: &i64| Partition { consumer_lag: *lag, ..Partition::default() };
        let partitions = (0..).zip(lags.iter().map(partition)).collect();
        let topic = Topic { partitions, ..Topic::default() };
        Statistics { topics: [("events".to_owned(), topic)].into(), ..Statistics::default() }
    }

    #[test]
    fn a_lag_that_is_not_known_is_absent_and_not_zero() {
        let (registry, provider) = provider();
        let progress = Progress::default();
        progress.show(&provider.meter("test"));
        let lag = || values(&registry, "messaging_consumer_lag");
        assert!(lag().is_empty());
        progress.stats(reckoned(&[-1, 2, 3]));
        assert_eq!(lag(), ["5"]);
        progress.stats(reckoned(&[0]));
        assert_eq!(lag(), ["0"]);
        // Another replica has the partitions now.
        progress.stats(reckoned(&[-1, -1]));
        assert!(lag().is_empty(), "{:?}", lag());
        assert_eq!(values(&registry, "messaging_consumer_last_poll_age_seconds").len(), 1);
    }
}
