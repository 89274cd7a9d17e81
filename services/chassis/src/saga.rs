//! Sagas as metrics show them: how long each took to settle, how many have not, and how long the oldest of those waits; and
//! what the reconciler found wrong.

use std::sync::{Arc, Mutex, PoisonError};

use chrono::TimeDelta;
use futures::future::BoxFuture;
use opentelemetry::{KeyValue, metrics::Meter};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::{cause::Coordination, measuring, metrics};

/// Counts one that has settled, after the commit that says so.
pub fn settled(coordination: Coordination, outcome: &'static str, took: TimeDelta) {
    let labels =
        [KeyValue::new("coordination", coordination.as_str()), KeyValue::new("outcome", outcome)];
    let took = took.to_std().unwrap_or_default();
    metrics::instruments().saga_duration.record(took.as_secs_f64(), &labels);
}

/// What was done about a saga whose rows do not agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// The event that tells of the decision was sent again.
    SentAgain,
    /// A fact that was never heard was asked for.
    Learned,
    /// Nothing: a person must look.
    Contradiction,
}

impl Remedy {
    fn as_str(self) -> &'static str {
        match self {
            Self::SentAgain => "sent_again",
            Self::Learned => "learned",
            Self::Contradiction => "contradiction",
        }
    }
}

/// Shows zeros for these, so that an alarm sees the first one.
pub fn reconciles(kinds: impl IntoIterator<Item = (Remedy, &'static str)>) {
    compared(0);
    kinds.into_iter().for_each(|(remedy, what)| count_wrong(0, remedy, what));
}

/// Counts those whose rows were compared.
pub fn compared(sagas: usize) {
    metrics::instruments().reconciler_compared.add(sagas as u64, &[]);
}

/// Counts one whose rows did not agree, after the commit that puts it right. `what` was lost, or is wrong: a name, never an id.
pub fn found_wrong(remedy: Remedy, what: &'static str) {
    count_wrong(1, remedy, what);
}

fn count_wrong(sagas: u64, remedy: Remedy, what: &'static str) {
    let labels = [KeyValue::new("remedy", remedy.as_str()), KeyValue::new("what", what)];
    metrics::instruments().reconciler_wrong.add(sagas, &labels);
}

/// Measures the unsettled ones every few seconds until told to stop. The statement answers one row: how many there are,
/// and the age of the oldest in seconds (0 without one). While the database does not answer, both are absent.
pub async fn watch(
    pool: PgPool,
    statement: &'static str,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let ask = || -> BoxFuture<'static, _> {
        let pool = pool.clone();
        Box::pin(async move { sqlx::query_as(statement).fetch_one(&pool).await })
    };
    let unsettled = Known::default();
    unsettled.show_unsettled(&metrics::meter());
    let measured = &metrics::instruments().saga_measured;
    measuring::watch("unsettled sagas", measured, ask, |answer| unsettled.set(answer), shutdown)
        .await;
    Ok(())
}

/// Measures those that wait for a person, every few seconds until told to stop. The statement answers how many there are.
/// While the database does not answer, that is absent.
pub async fn watch_parked(
    pool: PgPool,
    statement: &'static str,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let ask = || -> BoxFuture<'static, _> {
        let pool = pool.clone();
        Box::pin(async move { sqlx::query_scalar(statement).fetch_one(&pool).await })
    };
    let parked = Known::default();
    parked.show_parked(&metrics::meter());
    let measured = &metrics::instruments().saga_measured;
    measuring::watch("parked sagas", measured, ask, |answer| parked.set(answer), shutdown).await;
    Ok(())
}

/// The last answer, while it holds.
#[derive(Clone, Debug)]
struct Known<T>(Arc<Mutex<Option<T>>>);

impl<T> Default for Known<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T: Copy> Known<T> {
    fn get(&self) -> Option<T> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, answer: Option<T>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = answer;
    }
}

impl Known<(i64, f64)> {
    fn show_unsettled(&self, meter: &Meter) {
        let (of_number, of_age) = (self.clone(), self.clone());
        meter
            .i64_observable_gauge("saga.unsettled")
            .with_description("Sagas that have not settled; absent while unknown")
            .with_callback(move |observer| {
                of_number.get().into_iter().for_each(|(number, _)| observer.observe(number, &[]));
            })
            .build();
        meter
            .f64_observable_gauge("saga.oldest.unsettled")
            .with_unit("s")
            .with_description("Since the oldest of them began; absent while unknown")
            .with_callback(move |observer| {
                of_age.get().into_iter().for_each(|(_, age)| observer.observe(age, &[]));
            })
            .build();
    }
}

impl Known<i64> {
    fn show_parked(&self, meter: &Meter) {
        let known = self.clone();
        meter
            .i64_observable_gauge("saga.parked")
            .with_description("Sagas that wait for a person; absent while unknown")
            .with_callback(move |observer| {
                known.get().into_iter().for_each(|number| observer.observe(number, &[]));
            })
            .build();
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use opentelemetry::metrics::MeterProvider as _;

    use super::*;
    use crate::metrics::tests::{provider, values};

    #[tokio::test]
    async fn what_the_database_does_not_say_of_sagas_is_absent_until_it_does() {
        let (registry, provider) = provider();
        let meter = provider.meter("test");
        let (unsettled, parked) = (Known::default(), Known::default());
        unsettled.show_unsettled(&meter);
        parked.show_parked(&meter);
        let measured = meter.u64_gauge("saga.measured").build();
        let shown = || {
            let names =
                ["saga_measured", "saga_unsettled", "saga_oldest_unsettled_seconds", "saga_parked"];
            names.map(|name| values(&registry, name)).concat()
        };
        let ask = async |number: Option<i64>| {
            let away = || sqlx::Error::PoolClosed;
            let counted = ready(number.map(|it| (it, 7.5)).ok_or_else(away));
            measuring::step("sagas", &measured, counted, |it| unsettled.set(it), true).await;
            let counted = ready(number.ok_or_else(away));
            measuring::step("sagas", &measured, counted, |it| parked.set(it), true).await
        };
        assert_eq!(shown(), [""; 0]);
        for number in [3, 4] {
            assert!(ask(Some(number)).await);
            let number = number.to_string();
            assert_eq!(shown(), ["1", &number, "7.5", &number]);
            assert!(!ask(None).await);
            assert_eq!(shown(), ["0"]);
        }
    }
}
