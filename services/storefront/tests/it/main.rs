//! The real program without any service: it starts, says who is away, keeps foreign forms out, and stops with open streams.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod program;

use std::time::{Duration, Instant};

use program::{Program, refused};

#[test]
fn every_page_is_answered_with_a_strict_policy_while_all_services_are_away() {
    let program = Program::start(&[]);
    let catalogue = program.get("/", &[]);
    assert_eq!(catalogue.status, 200);
    for service in ["orders", "products", "delivery", "orchestrator"] {
        assert!(catalogue.body.contains(&format!("<b>{service}</b> does not answer")), "{service}");
    }
    let pages = [("/", 200), ("/orders", 503), ("/operator", 200), ("/nowhere", 404)];
    for (page, status) in pages {
        let answer = program.get(page, &[]);
        assert_eq!(answer.status, status, "{page}");
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'"));
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{page}");
        // What will be there again is asked for again.
        let tries_again = answer.body.contains("http-equiv=\"refresh\"");
        assert_eq!(tries_again, ["/", "/orders"].contains(&page), "{page}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{page}");
    }
    let cookie = catalogue.header("set-cookie").unwrap();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax"), "{cookie}");
}

const ID: &str = "0195b1c6-3f5e-7c8a-9d51-2b1f6f0a7e11";

#[test]
fn nothing_is_done_for_a_form_that_is_not_ours() {
    let program = Program::start(&[]);
    let (cookie, token) = program.customer();
    let forms = [
        "/orders".to_owned(),
        format!("/orders/{ID}/cancel"),
        format!("/operator/deliveries/{ID}/dispatch"),
        "/operator/parked/products/retry".to_owned(),
        "/operator/switches/products".to_owned(),
    ];
    for form in &forms {
        let no_token = program.post(form, &[&cookie], "name=x");
        assert_eq!(no_token.status, 403, "{form}");
        let foreign = program.post(form, &[], &format!("token={token}"));
        assert_eq!(foreign.status, 403, "{form} with another's token");
        let site =
            program.post(form, &[&cookie, "sec-fetch-site: cross-site"], &format!("token={token}"));
        assert_eq!((site.status, site.body.as_str()), (403, "sent from another site\n"), "{form}");
        let ours = program.post(form, &[&cookie], &format!("token={token}"));
        assert_ne!(ours.status, 403, "{form} of ours");
    }
    assert_eq!(program.get("/", &["host: evil.example"]).status, 421);
}

#[test]
fn what_is_too_large_or_malformed_is_refused() {
    let program = Program::start(&[]);
    let (cookie, token) = program.customer();
    let large = format!("token={token}&name={}", "x".repeat(70_000));
    assert_eq!(program.post("/orders", &[&cookie], &large).status, 413);
    assert_eq!(program.get("/orders/not-an-id", &[&cookie]).status, 400);
    let wrong = format!("token={token}&quantity.tv=-1&name=&address=");
    let answer = program.post("/orders", &[&cookie, "accept-language: ko"], &wrong);
    assert_eq!(answer.status, 422);
    for told in ["수량은", "이름을", "주소를"] {
        assert!(answer.body.contains(told), "{told}");
    }
}

#[test]
fn an_order_that_cannot_be_placed_keeps_its_form() {
    let program = Program::start(&[]);
    let (cookie, token) = program.customer();
    let form = format!("token={token}&request_id=r-1&quantity.tv=1&name=%3Cb%3E&address=a");
    let answer = program.post("/orders", &[&cookie], &form);
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains("value=\"r-1\"") && answer.body.contains("value=\"&#60;b&#62;\""));
}

#[test]
fn without_the_operators_view_there_is_no_trace_of_it() {
    let program = Program::customers_only();
    assert_eq!(program.get("/operator", &[]).status, 404);
    assert!(!program.get("/", &[]).body.contains("/operator"));
}

#[test]
fn it_is_measured_and_ready_and_stops_with_open_streams() {
    let program = Program::start(&["--drain-limit", "300s"]);
    assert_eq!(program.metrics("/readyz").body, "ready\n");
    assert_eq!(program.metrics("/healthz").body, "ok\n");
    program.get("/", &[]);
    let page = program.metrics("/metrics").body;
    assert!(page.contains("http_server_request_duration_seconds_count"), "{page}");
    assert!(page.contains("http_route=\"/\""), "{page}");
    let stream = program.stream("/live");
    let asked = Instant::now();
    assert!(program.stop().success());
    assert!(asked.elapsed() < Duration::from_secs(60), "the stream held it up");
    drop(stream);
}

#[test]
fn wrong_flags_and_taken_ports_are_said_at_once() {
    assert!(refused(&["--jaeger-url", "javascript:alert(1)"]).contains("must be an address"));
    assert!(refused(&["--listen", "0.0.0.0:0"]).contains("without TLS"));
    assert!(refused(&["--secret", "short"]).contains("32 characters"));
    assert!(refused(&["--lights"]).contains("unexpected argument"));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    assert!(refused(&["--listen", &address]).contains("is the port taken?"));
}
