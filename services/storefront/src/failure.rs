//! A page that cannot be shown, or an act that was refused: what the visitor is told instead. Internal text is logged, never
//! shown.

use askama::Template;
use axum::{
    http::StatusCode,
    response::{Html, IntoResponse as _, Response},
};
use tonic::{Code, Status};

use crate::{page::Frame, visitor::Visitor};

/// Why something is not shown.
#[derive(Debug)]
pub(crate) enum Failure {
    NotFound,
    StaleForm,
    /// A service did not answer. Said only on pages that can be asked for again.
    Away,
    /// A defect.
    Internal,
}

impl Failure {
    /// As a service's answer has it.
    pub(crate) fn of(status: &Status) -> Self {
        match status.code() {
            Code::NotFound | Code::InvalidArgument => Self::NotFound,
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => Self::Away,
            code => {
                tracing::error!(?code, message = status.message(), "a service refused a page");
                Self::Internal
            }
        }
    }

    pub(crate) fn page(&self, visitor: &Visitor) -> Response {
        let texts = visitor.texts;
        let (status, message) = match self {
            Self::NotFound => (StatusCode::NOT_FOUND, texts.not_found),
            Self::StaleForm => (StatusCode::FORBIDDEN, texts.stale_form),
            Self::Away => (StatusCode::SERVICE_UNAVAILABLE, texts.try_later),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, texts.failed),
        };
        let passes = matches!(self, Self::Away);
        (status, show(&FailurePage { frame: Frame::of(visitor, "", None), message, passes }))
            .into_response()
    }
}

#[derive(Template)]
#[template(path = "failure.html")]
struct FailurePage {
    frame: Frame,
    message: &'static str,
    /// It tries again by itself.
    passes: bool,
}

/// A rendered page; a template that fails is a defect.
pub(crate) fn show(page: &impl Template) -> Response {
    match page.render() {
        Ok(text) => Html(text).into_response(),
        Err(error) => {
            tracing::error!(%error, "a page could not be rendered");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// What is asked for at an address that leads nowhere.
pub(crate) async fn nowhere(visitor: Visitor) -> Response {
    Failure::NotFound.page(&visitor)
}
