//! Who looks at a page: a customer known by a random id in a cookie, his language, and the token that his forms must bring
//! back. The id is nothing but a name for his orders; whoever has the cookie is the customer.

use std::sync::Arc;

use axum::{
    extract::{FromRequestParts, Query, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    middleware::Next,
    response::Response,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chassis::telemetry::TraceContext;
use ring::hmac;
use serde::Deserialize;
use uuid::Uuid;

use crate::{hall::Hall, language::Language, texts::Texts};

const CUSTOMER: &str = "settle_customer";
const LANGUAGE: &str = "settle_language";
/// A year.
const KEPT_SECONDS: u32 = 31_536_000;

/// Signs the tokens of forms.
#[derive(Clone)]
pub(crate) struct Signer(Arc<hmac::Key>);

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer")
    }
}

impl Signer {
    pub(crate) fn new(secret: &str) -> Self {
        Self(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes())))
    }

    /// The token that every form of this customer brings: signed, and bound to his cookie.
    pub(crate) fn token(&self, customer_id: &str) -> String {
        URL_SAFE_NO_PAD.encode(hmac::sign(&self.0, customer_id.as_bytes()))
    }

    /// In constant time.
    pub(crate) fn accepts(&self, customer_id: &str, token: &str) -> bool {
        let Ok(token) = URL_SAFE_NO_PAD.decode(token) else { return false };
        hmac::verify(&self.0, customer_id.as_bytes(), &token).is_ok()
    }
}

/// Whoever looks at a page.
#[derive(Clone, Debug)]
pub(crate) struct Visitor {
    pub(crate) customer_id: String,
    pub(crate) token: String,
    pub(crate) texts: &'static Texts,
    /// Whether there is an operator's view to lead to.
    pub(crate) sees_operator: bool,
    /// Of the page he looks at.
    pub(crate) trace: TraceContext,
}

#[derive(Deserialize)]
struct Choice {
    lang: Option<String>,
}

/// Recognises the visitor, or makes him known; remembers the language that he chooses.
pub(crate) async fn recognise(
    State(hall): State<Hall>,
    mut request: Request,
    next: Next,
) -> Response {
    let known = cookie(request.headers(), CUSTOMER).filter(|id| is_ours(id)).map(str::to_owned);
    let customer_id = known.clone().unwrap_or_else(|| format!("web-{}", Uuid::new_v4()));
    let choice = Query::<Choice>::try_from_uri(request.uri()).ok();
    let chosen = choice.and_then(|Query(choice)| Language::of_code(&choice.lang?));
    let remembered = cookie(request.headers(), LANGUAGE).and_then(Language::of_code);
    let language = chosen.or(remembered).unwrap_or_else(|| Language::accepted(request.headers()));
    let trace = request.extensions().get::<TraceContext>().cloned();
    request.extensions_mut().insert(Visitor {
        token: hall.signer.token(&customer_id),
        customer_id: customer_id.clone(),
        texts: Texts::of(language),
        sees_operator: hall.operator,
        trace: trace.unwrap_or_else(TraceContext::random),
    });
    let mut response = next.run(request).await;
    let new = (known.is_none()).then_some((CUSTOMER, customer_id.as_str()));
    let chosen = chosen.map(|language| (LANGUAGE, language.code()));
    for (name, value) in new.into_iter().chain(chosen) {
        let secure = if hall.secure_cookies { "; Secure" } else { "" };
        let cookie = format!(
            "{name}={value}; Path=/; Max-Age={KEPT_SECONDS}; HttpOnly; SameSite=Lax{secure}"
        );
        if let Ok(cookie) = HeaderValue::from_str(&cookie) {
            response.headers_mut().append(header::SET_COOKIE, cookie);
        }
    }
    response
}

impl<S: Send + Sync> FromRequestParts<S> for Visitor {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, StatusCode> {
        parts.extensions.get::<Self>().cloned().ok_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim())
}

/// Only ids of the form that we give: nobody names himself like another kind of customer.
fn is_ours(id: &str) -> bool {
    id.strip_prefix("web-").is_some_and(|id| id.len() == 36 && Uuid::try_parse(id).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_its_customer_and_its_secret_alone() {
        let signer = Signer::new("the secret of this site, long enough");
        let token = signer.token("web-1");
        assert!(signer.accepts("web-1", &token));
        assert!(!signer.accepts("web-2", &token));
        assert!(!Signer::new("another secret").accepts("web-1", &token));
        for forged in ["", "x", "%%%", &token[1..], &format!("{token}A")] {
            assert!(!signer.accepts("web-1", forged), "{forged}");
        }
    }

    #[test]
    fn a_cookie_is_found_among_others_and_only_ids_of_ours_count() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, HeaderValue::from_static("a=1; settle_customer=x"));
        headers.append(header::COOKIE, HeaderValue::from_static("b=2"));
        assert_eq!(cookie(&headers, CUSTOMER), Some("x"));
        assert_eq!((cookie(&headers, "b"), cookie(&headers, "c")), (Some("2"), None));
        assert!(is_ours(&format!("web-{}", Uuid::new_v4())));
        assert!(!is_ours("1@uengine.org") && !is_ours("web-<script>"));
    }
}
