//! A gRPC call as the cause of what its transaction writes.

use tonic::Request;
use uuid::Uuid;

use crate::{cause::Cause, clock, spans, telemetry::TraceContext};

/// The call of `method` that is being answered: a new id, the time, and the trace it belongs to.
pub fn cause<T>(service: &'static str, method: &'static str, request: &Request<T>) -> Cause {
    let trace =
        request.extensions().get::<TraceContext>().cloned().unwrap_or_else(TraceContext::random);
    Cause::local(service, method, Uuid::now_v7(), trace, clock::now())
}

/// Notes the order that the call being answered is about, where no cause does.
pub fn concerns(order_id: Uuid) {
    spans::concerns(order_id);
}
