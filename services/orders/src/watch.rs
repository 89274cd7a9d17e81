//! Streams of orders: one query per tick serves all watchers, by order and revision, never by a global position, so that
//! no transition is missed whoever commits when.

use std::{collections::HashMap, sync::Arc, time::Duration};

use proto::orders::v1::{Order, WatchOrderResponse};
use sqlx::PgPool;
use tokio::sync::{Notify, mpsc};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use uuid::Uuid;

use crate::{error::Error, order::Transition, store, wire};

const TICK: Duration = Duration::from_millis(20);
/// How far a caller may fall behind before his watch waits for him; nothing is left out.
const AHEAD: usize = 16;

/// What a watch yields.
pub type Answer = Result<WatchOrderResponse, Status>;

/// One watch: what its caller has seen, and where to send what follows.
struct Watcher {
    order: Order,
    answers: mpsc::Sender<Answer>,
}

/// Takes new watches.
#[derive(Clone, Debug)]
pub struct Watchers {
    arrivals: mpsc::UnboundedSender<Watcher>,
    wake: Arc<Notify>,
}

/// Serves all watches.
#[derive(Debug)]
pub struct Lookout {
    arrivals: mpsc::UnboundedReceiver<Watcher>,
    wake: Arc<Notify>,
    pool: PgPool,
}

/// The two ends: calls leave their watches with the one, the other serves them.
pub fn open(pool: PgPool) -> (Watchers, Lookout) {
    let (sender, arrivals) = mpsc::unbounded_channel();
    let wake = Arc::new(Notify::new());
    (Watchers { arrivals: sender, wake: Arc::clone(&wake) }, Lookout { arrivals, wake, pool })
}

impl Watchers {
    /// Streams `order` as it is now, unless `after_revision` says that its caller has seen some of it, and then every
    /// transition that follows, until nothing can.
    pub fn watch(
        &self,
        mut order: Order,
        after_revision: i64,
    ) -> Result<impl tokio_stream::Stream<Item = Answer> + Send + 'static, Error> {
        let (answers, stream) = mpsc::channel(AHEAD);
        let first = if after_revision == 0 {
            Some(Ok(WatchOrderResponse { order: Some(order.clone()), transition: None }))
        } else {
            order.revision = after_revision;
            None
        };
        // A final order that is shown as it is needs no serving: dropping the sender ends the stream.
        if first.is_none() || !is_final(&order) {
            self.arrivals.send(Watcher { order, answers }).map_err(|_| Error::Stopping)?;
            self.wake.notify_one();
        }
        Ok(tokio_stream::iter(first).chain(ReceiverStream::new(stream)))
    }
}

impl Lookout {
    /// Repeats a tick while anybody watches, until told to stop; then ends the streams with UNAVAILABLE, so that their
    /// callers resume elsewhere.
    pub async fn run(mut self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let mut watchers: Vec<Watcher> = Vec::new();
        while !shutdown.is_cancelled() {
            if watchers.is_empty() && self.arrivals.is_empty() {
                tokio::select! {
                    () = self.wake.notified() => {}
                    () = shutdown.cancelled() => break,
                }
            }
            while let Ok(watcher) = self.arrivals.try_recv() {
                watchers.push(watcher);
            }
            if let Err(error) = self.step(&mut watchers).await {
                tracing::warn!(%error, "watched orders will be looked up again");
            }
            tokio::select! {
                () = tokio::time::sleep(TICK) => {}
                () = shutdown.cancelled() => break,
            }
        }
        self.arrivals.close();
        while let Ok(watcher) = self.arrivals.try_recv() {
            watchers.push(watcher);
        }
        // Whoever has gone does not need to know; whoever is behind must not take the end for a good one.
        let ends = watchers.into_iter().map(|watcher| async move {
            let _ = watcher.answers.send(Err(Error::Stopping.into())).await;
        });
        futures::future::join_all(ends).await;
        Ok(())
    }

    /// Looks for what is new to anybody and sends it; forgets watches that are done or whose callers have gone.
    async fn step(&mut self, watchers: &mut Vec<Watcher>) -> sqlx::Result<()> {
        watchers.retain(|watcher| !watcher.answers.is_closed());
        if watchers.is_empty() {
            return Ok(());
        }
        let news = self.news(watchers).await?;
        watchers.retain_mut(|watcher| match news.get(watcher.order.order_id.as_str()) {
            Some(transitions) => watcher.tell(transitions),
            None => !is_final(&watcher.order),
        });
        Ok(())
    }

    async fn news(&self, watchers: &[Watcher]) -> sqlx::Result<HashMap<String, Vec<Transition>>> {
        let mut after: HashMap<Uuid, i64> = HashMap::new();
        for watcher in watchers {
            if let Ok(order_id) = Uuid::try_parse(&watcher.order.order_id) {
                let seen = after.entry(order_id).or_insert(watcher.order.revision);
                *seen = watcher.order.revision.min(*seen);
            }
        }
        let after: Vec<_> = after.into_iter().collect();
        let mut news: HashMap<String, Vec<Transition>> = HashMap::new();
        for transition in store::transitions_after(&mut *self.pool.acquire().await?, &after).await?
        {
            news.entry(transition.order_id.to_string()).or_default().push(transition);
        }
        Ok(news)
    }
}

impl Watcher {
    /// Sends what its caller has not seen; false when the watch is over.
    fn tell(&mut self, transitions: &[Transition]) -> bool {
        for transition in transitions {
            if transition.revision <= self.order.revision {
                continue;
            }
            let order = wire::after(self.order.clone(), transition);
            let answer = WatchOrderResponse {
                order: Some(order.clone()),
                transition: Some(wire::transition(transition)),
            };
            match self.answers.try_send(Ok(answer)) {
                Ok(()) => self.order = order,
                Err(mpsc::error::TrySendError::Full(_)) => return true,
                Err(mpsc::error::TrySendError::Closed(_)) => return false,
            }
        }
        !is_final(&self.order)
    }
}

fn is_final(order: &Order) -> bool {
    use proto::orders::v1::OrderState::{Cancelled, Completed};
    matches!(order.state(), Cancelled | Completed)
}
