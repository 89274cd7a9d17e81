//! The end of a call's span: with the trailers of its answer, which alone say how it ended.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http_body::Frame;
use opentelemetry::Context as Call;
use tonic::{Code, Status};

use crate::spans;

/// The call's span ends with its answer: at once where that is only a status, else with the trailers.
pub(crate) fn until(response: Response, call: Call, ended: Option<Code>) -> Response {
    match ended {
        Some(code) => {
            spans::answered(&call, code);
            response
        }
        None => response.map(|body| Body::new(Answered { body, call: Some(call) })),
    }
}

/// A body whose trailers say how the call ended; whoever goes away before has cancelled it.
struct Answered {
    body: Body,
    call: Option<Call>,
}

impl Answered {
    fn end(&mut self, code: Code) {
        if let Some(call) = self.call.take() {
            spans::answered(&call, code);
        }
    }
}

impl Drop for Answered {
    fn drop(&mut self) {
        self.end(Code::Cancelled);
    }
}

impl http_body::Body for Answered {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    let status = Status::from_header_map(trailers);
                    self.end(status.map_or(Code::Unknown, |status| status.code()));
                }
            }
            Some(Err(_)) => self.end(Code::Internal),
            None => self.end(Code::Unknown),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}
