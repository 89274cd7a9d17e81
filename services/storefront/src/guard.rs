//! What keeps foreign pages out: nothing is sent to this site from another one, no foreign name leads here, and a page loads
//! nothing that is not its own.

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use crate::hall::Hall;

/// No inline script or style, no eval, no frame, nothing from elsewhere.
pub(crate) const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

const HEADERS: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
];

/// Refuses what comes from elsewhere, and tells the browser what a page may do.
pub(crate) async fn guard(State(hall): State<Hall>, request: Request, next: Next) -> Response {
    let mut response = match refusal(&hall.host_names, request.method(), request.headers()) {
        Some((status, why)) => (status, why).into_response(),
        None => next.run(request).await,
    };
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    // Pages are a customer's own; what may be kept says so itself.
    response
        .headers_mut()
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

fn refusal(
    host_names: &[String],
    method: &Method,
    headers: &HeaderMap,
) -> Option<(StatusCode, &'static str)> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let host = text(header::HOST).unwrap_or_default();
    if !host_names.iter().any(|name| name.eq_ignore_ascii_case(without_port(host))) {
        return Some((StatusCode::MISDIRECTED_REQUEST, "this site has another name\n"));
    }
    if method.is_safe() {
        return None;
    }
    let from_here = match text(HeaderName::from_static("sec-fetch-site")) {
        Some(site) => site == "same-origin",
        // An older browser, or none.
        None => true,
    };
    let origin = text(header::ORIGIN).map(|origin| origin.split_once("://").map(|(_, at)| at));
    let same_origin = origin.is_none_or(|origin| origin == Some(host));
    (!from_here || !same_origin).then_some((StatusCode::FORBIDDEN, "sent from another site\n"))
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(method: Method, headers: &[(&'static str, &'static str)]) -> Option<u16> {
        let names = ["localhost".to_owned(), "[::1]".to_owned()];
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        refusal(&names, &method, &headers.collect()).map(|(status, _)| status.as_u16())
    }

    #[test]
    fn a_foreign_name_leads_nowhere() {
        assert_eq!(refused(Method::GET, &[("host", "localhost:8080")]), None);
        assert_eq!(refused(Method::GET, &[("host", "[::1]:8080")]), None);
        assert_eq!(refused(Method::GET, &[("host", "evil.example")]), Some(421));
        assert_eq!(refused(Method::GET, &[]), Some(421));
    }

    #[test]
    fn what_another_site_sends_is_refused() {
        let host = ("host", "localhost:8080");
        let post = |header| refused(Method::POST, &[host, header]);
        assert_eq!(refused(Method::POST, &[host]), None);
        assert_eq!(post(("origin", "http://localhost:8080")), None);
        assert_eq!(post(("sec-fetch-site", "same-origin")), None);
        assert_eq!(post(("origin", "http://evil.example")), Some(403));
        assert_eq!(post(("origin", "http://localhost:9999")), Some(403));
        assert_eq!(post(("origin", "null")), Some(403));
        for site in ["cross-site", "same-site", "none"] {
            let header = HeaderValue::from_static(site);
            let headers = [("host", "localhost"), ("sec-fetch-site", header.to_str().unwrap())];
            let headers = headers.map(|(name, value)| {
                (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
            });
            let names = ["localhost".to_owned()];
            assert!(refusal(&names, &Method::POST, &headers.into_iter().collect()).is_some());
        }
    }
}
