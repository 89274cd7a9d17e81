//! What every answer goes through: a bound on calls at once, the caller's deadline, a span, a duration, the trace id.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    middleware::{self, Next},
    response::Response,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body::Frame;
use opentelemetry::{
    KeyValue,
    trace::{FutureExt as _, TraceContextExt as _},
};
use tokio::{
    sync::Semaphore,
    time::{Sleep, sleep},
};
use tonic::{Code, Status};

use crate::{answered, metrics, spans, status, telemetry::TraceContext};

/// Ours passes this much before tonic's own, which would answer CANCELLED.
const AHEAD_OF_TONIC: Duration = Duration::from_millis(3);

/// Wraps the routes, outermost first: observe, shed, deadline.
pub(crate) fn wrap(routes: Router, max_concurrent: usize, default_deadline: Duration) -> Router {
    routes
        .layer(middleware::from_fn_with_state(default_deadline, keep_deadline))
        .layer(middleware::from_fn_with_state(Arc::new(Semaphore::new(max_concurrent)), shed))
        .layer(middleware::from_fn(observe))
}

async fn observe(mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = request.uri().path().trim_start_matches('/').to_owned();
    let incoming = TraceContext::from_metadata(request.headers());
    let call = match quiet(&method) {
        true => None,
        false => spans::answer(&method, &incoming, request.headers()),
    };
    let trace = match &call {
        Some(call) => incoming.within(call.span().span_context().clone()),
        None if incoming.span().is_valid() => incoming,
        None => incoming.within(TraceContext::random().span().clone()),
    };
    request.extensions_mut().insert(trace.clone());
    let response = match &call {
        Some(call) => next.run(request).with_context(call.clone()).await,
        None => next.run(request).await,
    };
    let mut response = exhausted_not_out_of_range(response);
    if let Some(id) = trace.trace_id().and_then(|id| HeaderValue::from_str(&id).ok()) {
        response.headers_mut().insert("x-trace-id", id);
    }
    let ended = Status::from_header_map(response.headers()).map(|status| status.code());
    if let Some(call) = call {
        response = answered::until(response, call, ended);
    }
    let code = ended.unwrap_or(Code::Ok);
    // Any path can be asked for; only those that exist are worth a series of their own.
    let method = if code == Code::Unimplemented { "unknown".to_owned() } else { method };
    let labels = [
        KeyValue::new("rpc.method", method),
        KeyValue::new("rpc.response.status_code", format!("{code:?}")),
    ];
    metrics::instruments().call_duration.record(started.elapsed().as_secs_f64(), &labels);
    response
}

/// Asked all the time by machines, and nobody looks for it.
fn quiet(method: &str) -> bool {
    ["grpc.health.", "grpc.reflection."].iter().any(|service| method.starts_with(service))
}

/// An oversized message is RESOURCE_EXHAUSTED in every other gRPC implementation; tonic says OUT_OF_RANGE.
fn exhausted_not_out_of_range(response: Response) -> Response {
    match Status::from_header_map(response.headers()) {
        Some(status)
            if status.code() == Code::OutOfRange
                && status.message().contains("message length too large") =>
        {
            into_response(&Status::resource_exhausted(status.message()))
        }
        _ => response,
    }
}

/// What an operator asks is answered under load too: a busy service is neither dead nor out of reach.
const NEVER_SHED: [&str; 2] = ["/grpc.health.v1.Health/", "/shop.operations.v1.OperationsService/"];

async fn shed(State(places): State<Arc<Semaphore>>, request: Request, next: Next) -> Response {
    if NEVER_SHED.iter().any(|service| request.uri().path().starts_with(service)) {
        return next.run(request).await;
    }
    match places.try_acquire() {
        Ok(_place) => next.run(request).await,
        Err(_) => {
            into_response(&status::unavailable("OVERLOADED", "too many calls at once; try again"))
        }
    }
}

async fn keep_deadline(State(default): State<Duration>, request: Request, next: Next) -> Response {
    let asked =
        request.headers().get("grpc-timeout").and_then(|value| parse_timeout(value.to_str().ok()?));
    // Too little to be ahead of tonic, and to do anything in.
    if asked.is_some_and(|timeout| timeout <= AHEAD_OF_TONIC) {
        return into_response(&status::deadline_exceeded());
    }
    let deadline = asked.map(|timeout| timeout.saturating_sub(AHEAD_OF_TONIC));
    match tokio::time::timeout(deadline.unwrap_or(default), next.run(request)).await {
        // A stream may be open as long as its caller wants; without a deadline of his, for ever.
        Ok(response) => match deadline {
            Some(deadline) => response
                .map(|body| Body::new(UntilDeadline { body, sleep: Box::pin(sleep(deadline)) })),
            None => response,
        },
        Err(_) => into_response(&status::deadline_exceeded()),
    }
}

/// `<number><unit>`, as the gRPC protocol has it.
fn parse_timeout(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = number.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number.checked_mul(3600)?),
        "M" => Duration::from_secs(number.checked_mul(60)?),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

fn into_response(status: &Status) -> Response {
    status.clone().into_http()
}

/// A body that ends with DEADLINE_EXCEEDED in its trailers when the deadline passes first.
struct UntilDeadline {
    body: Body,
    sleep: Pin<Box<Sleep>>,
}

impl http_body::Body for UntilDeadline {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        std::task::ready!(self.sleep.as_mut().poll(cx));
        self.body = Body::empty();
        let mut trailers = HeaderMap::new();
        // The message is ours and plain, so writing it cannot fail.
        let _ = status::deadline_exceeded().add_header(&mut trailers);
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_read_in_every_unit() {
        assert_eq!(parse_timeout("100m"), Some(Duration::from_millis(100)));
        assert_eq!(parse_timeout("1H"), Some(Duration::from_secs(3600)));
        assert_eq!(parse_timeout("5u"), Some(Duration::from_micros(5)));
        assert_eq!(parse_timeout("m"), None);
        assert_eq!(parse_timeout(""), None);
        assert_eq!(parse_timeout("10x"), None);
    }
}
