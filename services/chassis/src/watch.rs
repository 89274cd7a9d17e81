//! Streams of what changes step by step: one query per tick serves all watchers, by id and position within it, never by a
//! global position, so that no step is missed whoever commits when.

use std::{collections::HashMap, sync::Arc, time::Duration};

use sqlx::{PgConnection, PgPool};
use tokio::sync::{Notify, mpsc};
use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use uuid::Uuid;

use crate::status;

const TICK: Duration = Duration::from_millis(20);
/// How far a caller may fall behind before his watch waits for him; nothing is left out.
const AHEAD: usize = 16;

/// What callers can follow, as one of them has seen it.
pub trait Watched: Send + 'static {
    /// One step.
    type Step: Send + Sync;
    /// What a caller is told of a step.
    type Answer: Send;

    /// Which one it is.
    fn id(&self) -> Uuid;

    /// The last step that was seen.
    fn position(&self) -> i64;

    /// Whether nothing can follow what was seen.
    fn is_final(&self) -> bool;

    /// Takes a step over, and says what the caller is to be told.
    fn see(&mut self, step: &Self::Step) -> Self::Answer;

    /// The id and the position of a step.
    fn place(step: &Self::Step) -> (Uuid, i64);

    /// The steps of each after a position of its own, by id and position.
    fn after(
        conn: &mut PgConnection,
        positions: &[(Uuid, i64)],
    ) -> impl Future<Output = sqlx::Result<Vec<Self::Step>>> + Send;
}

/// What a watch yields.
pub type Answer<W> = Result<<W as Watched>::Answer, Status>;

/// One watch: what its caller has seen, and where to send what follows.
struct Watcher<W: Watched> {
    seen: W,
    answers: mpsc::Sender<Answer<W>>,
}

/// Takes new watches.
pub struct Watchers<W: Watched> {
    arrivals: mpsc::UnboundedSender<Watcher<W>>,
    wake: Arc<Notify>,
}

/// Serves all watches.
pub struct Lookout<W: Watched> {
    arrivals: mpsc::UnboundedReceiver<Watcher<W>>,
    wake: Arc<Notify>,
    pool: PgPool,
}

impl<W: Watched> std::fmt::Debug for Watchers<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watchers").finish_non_exhaustive()
    }
}

impl<W: Watched> std::fmt::Debug for Lookout<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lookout").finish_non_exhaustive()
    }
}

/// The two ends: calls leave their watches with the one, the other serves them.
pub fn open<W: Watched>(pool: PgPool) -> (Watchers<W>, Lookout<W>) {
    let (sender, arrivals) = mpsc::unbounded_channel();
    let wake = Arc::new(Notify::new());
    (Watchers { arrivals: sender, wake: Arc::clone(&wake) }, Lookout { arrivals, wake, pool })
}

impl<W: Watched> Watchers<W> {
    /// Streams `first`, if there is one, and then every step that follows what was `seen`, until nothing can.
    /// Errors: the service is stopping.
    pub fn watch(
        &self,
        seen: W,
        first: Option<W::Answer>,
    ) -> Result<impl Stream<Item = Answer<W>> + Send + 'static, Status> {
        let (answers, stream) = mpsc::channel(AHEAD);
        // A final one that is shown as it is needs no serving: dropping the sender ends the stream.
        if first.is_none() || !seen.is_final() {
            self.arrivals.send(Watcher { seen, answers }).map_err(|_| stopping())?;
            self.wake.notify_one();
        }
        Ok(tokio_stream::iter(first.map(Ok)).chain(ReceiverStream::new(stream)))
    }
}

impl<W: Watched> Lookout<W> {
    /// Repeats a tick while anybody watches, until told to stop; then ends the streams with UNAVAILABLE, so that their
    /// callers resume elsewhere.
    pub async fn run(mut self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let mut watchers: Vec<Watcher<W>> = Vec::new();
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
                tracing::warn!(%error, "what is watched will be looked up again");
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
            let _ = watcher.answers.send(Err(stopping())).await;
        });
        futures::future::join_all(ends).await;
        Ok(())
    }

    /// Looks for what is new to anybody and sends it; forgets watches that are done or whose callers have gone.
    async fn step(&mut self, watchers: &mut Vec<Watcher<W>>) -> sqlx::Result<()> {
        watchers.retain(|watcher| !watcher.answers.is_closed());
        if watchers.is_empty() {
            return Ok(());
        }
        let news = self.news(watchers).await?;
        watchers.retain_mut(|watcher| match news.get(&watcher.seen.id()) {
            Some(steps) => watcher.tell(steps),
            None => !watcher.seen.is_final(),
        });
        Ok(())
    }

    async fn news(&self, watchers: &[Watcher<W>]) -> sqlx::Result<HashMap<Uuid, Vec<W::Step>>> {
        let mut after: HashMap<Uuid, i64> = HashMap::new();
        for Watcher { seen, .. } in watchers {
            let furthest_behind = after.entry(seen.id()).or_insert(seen.position());
            *furthest_behind = seen.position().min(*furthest_behind);
        }
        let after: Vec<_> = after.into_iter().collect();
        let mut news: HashMap<Uuid, Vec<W::Step>> = HashMap::new();
        for step in W::after(&mut *self.pool.acquire().await?, &after).await? {
            news.entry(W::place(&step).0).or_default().push(step);
        }
        Ok(news)
    }
}

impl<W: Watched> Watcher<W> {
    /// Sends what its caller has not seen; false when the watch is over.
    fn tell(&mut self, steps: &[W::Step]) -> bool {
        for step in steps {
            if W::place(step).1 <= self.seen.position() {
                continue;
            }
            // Room first: what is taken over is sent.
            match self.answers.try_reserve() {
                Ok(room) => room.send(Ok(self.seen.see(step))),
                Err(mpsc::error::TrySendError::Full(())) => return true,
                Err(mpsc::error::TrySendError::Closed(())) => return false,
            }
        }
        !self.seen.is_final()
    }
}

fn stopping() -> Status {
    status::unavailable("STOPPING", "the service is stopping; try again")
}
