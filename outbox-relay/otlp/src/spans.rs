//! Spans on their way to a collector. Each is encoded by who ends it, into the request that will carry it: what waits is bounded in
//! bytes, and nothing of a span is copied, moved between threads or freed there.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{RecvTimeoutError, SyncSender, sync_channel},
    },
    time::Duration,
};

use opentelemetry::{Context, trace::TracerProvider as _};
use opentelemetry_sdk::{
    Resource,
    error::{OTelSdkError, OTelSdkResult},
    trace::{SdkTracer, SdkTracerProvider, Span, SpanData, SpanProcessor},
};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

use crate::{
    Error,
    collector::{Collector, Request},
    encoding,
    variables::Variables,
};

/// The instrumentation that all of them come from.
const SCOPE: &str = "settle";

/// Some hundred spans. Collectors take four MiB.
const REQUEST_BYTES: usize = 256 * 1024;

/// As many requests wait at most: eight MiB.
const MOST_REQUESTS: usize = 32;

/// As many as one transaction may serve.
const MOST_LINKS: u32 = 1024;

/// The spans of this process.
#[derive(Debug)]
pub struct Spans {
    provider: SdkTracerProvider,
    room: Room,
}

impl Spans {
    /// Sends spans to the collector at `endpoint` from now on, as what `service` did; `lost` hears how many could not be sent.
    /// Call it inside the Tokio runtime.
    ///
    /// # Errors
    /// When the endpoint is not a URL, no authorities are known that could vouch for it, or a variable cannot be read.
    pub fn start(service: &'static str, endpoint: &str, lost: fn(u64)) -> Result<Self, Error> {
        #[expect(clippy::disallowed_methods, reason = "their names are the specification's")]
        let variables = Variables::read(|name| std::env::var(name).ok())?;
        let collector = Collector::new(endpoint, &variables)?;
        let resource = Resource::builder().with_service_name(service).build();
        let ((full, requests), (asks, asked)) =
            (mpsc::channel(MOST_REQUESTS), mpsc::unbounded_channel());
        let room = Room(Arc::new(Waiting { filling: Mutex::default(), full, lost }));
        let sender = Sender {
            waiting: room.0.clone(),
            requests,
            collector,
            resource: resource.clone(),
            away: false,
        };
        #[expect(clippy::disallowed_methods, reason = "it ends with the provider")]
        tokio::spawn(sender.run(asked, variables.delay));
        let provider = SdkTracerProvider::builder()
            .with_span_processor(Processor { waiting: room.0.clone(), asks })
            .with_max_links_per_span(MOST_LINKS)
            .with_resource(resource)
            .build();
        Ok(Self { provider, room })
    }

    /// What makes them.
    pub fn tracer(&self) -> SdkTracer {
        self.provider.tracer(SCOPE)
    }

    /// Where they wait.
    pub fn room(&self) -> Room {
        self.room.clone()
    }

    /// Sends what is still to be sent, for at most so long.
    pub async fn shutdown(self, within: Duration) {
        // It blocks.
        let sent =
            tokio::task::spawn_blocking(move || self.provider.shutdown_with_timeout(within)).await;
        if let Ok(Err(error)) = sent {
            tracing::warn!(%error, "the last spans were not delivered");
        }
    }
}

/// Where spans wait to be sent.
#[derive(Debug, Clone)]
pub struct Room(Arc<Waiting>);

impl Room {
    /// Whether another span can wait, so that it is worth making; counts one that cannot as lost.
    pub fn is_left(&self) -> bool {
        let is_left = self.0.full.capacity() > 0;
        if !is_left {
            (self.0.lost)(1);
        }
        is_left
    }
}

#[derive(Debug)]
struct Waiting {
    filling: Mutex<Batch>,
    full: mpsc::Sender<Batch>,
    lost: fn(u64),
}

/// Encoded spans.
#[derive(Debug, Default)]
struct Batch {
    count: u64,
    bytes: Vec<u8>,
}

impl Waiting {
    fn add(&self, span: &SpanData) {
        let mut filling = self.filling();
        if filling.bytes.is_empty() {
            filling.bytes.reserve(REQUEST_BYTES + REQUEST_BYTES / 16);
        }
        encoding::span(&mut filling.bytes, span);
        filling.count += 1;
        if filling.bytes.len() >= REQUEST_BYTES {
            let full = std::mem::take(&mut *filling);
            // Still locked, so that they leave in their order.
            if let Err(refused) = self.full.try_send(full) {
                (self.lost)(refused.into_inner().count);
            }
        }
    }

    fn cut(&self) -> Batch {
        std::mem::take(&mut *self.filling())
    }

    fn filling(&self) -> MutexGuard<'_, Batch> {
        self.filling.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wants to know when everything that waits has left; and whether that was the last.
#[derive(Debug)]
struct Ask {
    done: SyncSender<()>,
    last: bool,
}

#[derive(Debug)]
struct Processor {
    waiting: Arc<Waiting>,
    asks: mpsc::UnboundedSender<Ask>,
}

impl Processor {
    fn ask(&self, last: bool, within: Duration) -> OTelSdkResult {
        let (done, is_done) = sync_channel(1);
        self.asks.send(Ask { done, last }).map_err(|_| OTelSdkError::AlreadyShutdown)?;
        is_done.recv_timeout(within).map_err(|error| match error {
            RecvTimeoutError::Timeout => OTelSdkError::Timeout(within),
            RecvTimeoutError::Disconnected => OTelSdkError::AlreadyShutdown,
        })
    }
}

impl SpanProcessor for Processor {
    fn on_start(&self, _span: &mut Span, _context: &Context) {}

    fn on_end(&self, span: SpanData) {
        self.waiting.add(&span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.ask(false, Duration::from_secs(10))
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.ask(true, timeout)
    }
}

/// The other end.
#[derive(Debug)]
struct Sender {
    waiting: Arc<Waiting>,
    requests: mpsc::Receiver<Batch>,
    collector: Collector,
    resource: Resource,
    away: bool,
}

impl Sender {
    /// Sends requests as they fill up, and every `delay` what there is.
    async fn run(mut self, mut asked: mpsc::UnboundedReceiver<Ask>, delay: Duration) {
        let mut ticks = interval(delay.max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                Some(full) = self.requests.recv() => self.send(full).await,
                _ = ticks.tick() => self.empty().await,
                ask = asked.recv() => {
                    let Some(ask) = ask else { return };
                    self.empty().await;
                    // Who does not wait any longer does not hear it.
                    let _ = ask.done.try_send(());
                    if ask.last {
                        return;
                    }
                }
            }
        }
    }

    /// Everything that waits now.
    async fn empty(&mut self) {
        for _ in 0..self.requests.len() {
            if let Ok(full) = self.requests.try_recv() {
                self.send(full).await;
            }
        }
        let rest = self.waiting.cut();
        if rest.count > 0 {
            self.send(rest).await;
        }
    }

    async fn send(&mut self, Batch { count, bytes }: Batch) {
        let above = encoding::request(&self.resource, SCOPE, bytes.len());
        let request = Request { above: above.into(), spans: bytes.into() };
        let lost = match self.collector.take(request).await {
            Ok(rejected) => {
                if std::mem::take(&mut self.away) {
                    tracing::info!("spans are collected again");
                }
                rejected
            }
            Err(status) => {
                if !std::mem::replace(&mut self.away, true) {
                    tracing::warn!(error = %status, "spans are not collected; they are dropped");
                }
                count
            }
        };
        if lost > 0 {
            (self.waiting.lost)(lost);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicU64, Ordering::Relaxed},
        time::SystemTime,
    };

    use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status};
    use opentelemetry_sdk::trace::{SpanEvents, SpanLinks};

    use super::*;

    fn span() -> SpanData {
        SpanData {
            span_context: SpanContext::empty_context(),
            parent_span_id: SpanId::INVALID,
            parent_span_is_remote: false,
            span_kind: SpanKind::Internal,
            name: "x".repeat(10_000).into(),
            start_time: SystemTime::UNIX_EPOCH,
            end_time: SystemTime::UNIX_EPOCH,
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: opentelemetry::InstrumentationScope::default(),
        }
    }

    #[test]
    fn what_waits_is_bounded_and_what_finds_no_room_is_counted() {
        static LOST: AtomicU64 = AtomicU64::new(0);
        let (full, mut requests) = mpsc::channel(MOST_REQUESTS);
        let lost = |count| {
            LOST.fetch_add(count, Relaxed);
        };
        let room = Room(Arc::new(Waiting { filling: Mutex::default(), full, lost }));
        let mut made = 0;
        while room.is_left() {
            room.0.add(&span());
            made += 1;
        }
        assert_eq!(LOST.swap(0, Relaxed), 1);
        assert_eq!(made, REQUEST_BYTES.div_ceil(10_050) * MOST_REQUESTS);
        // What was begun before ends all the same.
        let late = 2 * REQUEST_BYTES.div_ceil(10_050);
        (0..late).for_each(|_| room.0.add(&span()));
        assert_eq!(LOST.swap(0, Relaxed), late as u64);
        let sent = requests.try_recv().map(|batch| batch.count);
        assert_eq!(sent, Ok((made / MOST_REQUESTS) as u64));
        assert!(room.is_left());
        assert_eq!(LOST.load(Relaxed), 0);
    }
}
