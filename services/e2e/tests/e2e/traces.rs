//! One call, one trace: the spans of an order, whole, as the programs export them. The texts are in `traces/`.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use e2e::sender::{Sender, headers_of};
use local::{Event, Part};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use proto::orders::v1::{
    CancelOrderRequest, Coordination, Order, OrderState, PlaceOrderRequest, WatchOrderRequest,
    order_service_client::OrderServiceClient,
};
use serde_json::Value;
use tonic::{Request, metadata::MetadataMap, transport::Channel};
use uuid::Uuid;

use crate::{
    collector::{Collector, Seen},
    injected::headers,
    pages::page,
    shop::{Shop, request, trace_to, until},
    tree,
};

/// Either fact may complete the order.
pub(crate) const CONFIRMED: [&str; 2] = [
    include_str!("traces/confirmed_by_stock.txt"),
    include_str!("traces/confirmed_by_delivery.txt"),
];

const ORCHESTRATED: &str = include_str!("traces/orchestrated.txt");

pub(crate) async fn confirmed(shop: Shop) -> anyhow::Result<()> {
    let product = shop.product(5).await?;
    let (trace_id, order) = shop.place_traced(request(&[(&product, 1)])).await?;
    let spans = shop.until_trace(&trace_id, &CONFIRMED).await?;
    check_attributes(&spans, &order.order_id)?;
    let root = spans.iter().find(|span| span.parent.is_empty()).context("the root")?;
    assert_eq!(root.attribute("rpc.method"), "shop.orders.v1.OrderService/PlaceOrder");
    assert_eq!(root.attribute("rpc.response.status_code"), "OK");
    assert!(spans.iter().all(|span| span.error.is_none()), "{spans:#?}");

    // The commits that this order shared with others lead to it.
    let processed = |service: &str| {
        let of = |span: &&Seen| span.service == service && span.kind == SpanKind::Consumer;
        spans.iter().find(of).map(|span| span.span_id.clone())
    };
    for (service, served) in [
        ("orders", Some(root.span_id.clone())),
        ("orders", processed("orders")),
        ("products", processed("products")),
        ("delivery", processed("delivery")),
    ] {
        let link = (trace_id.clone(), served.context("a span of the service")?);
        until(&format!("a transaction of {service} leads to {link:?}"), async || {
            let name = format!("transaction {service}");
            let is_it = |span: &Seen| span.name == name && span.links.contains(&link);
            let found = shop.collector.find(is_it).await?;
            let [transaction] = &found[..] else { bail!("{} do", found.len()) };
            ensure!(transaction.kind == SpanKind::Client, "{transaction:?}");
            ensure!(transaction.attribute("db.system.name") == "postgresql", "{transaction:?}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

pub(crate) async fn cancelled_after(shop: Shop) -> anyhow::Result<()> {
    let product = shop.product(5).await?;
    let (placed, order) = shop.place_traced(request(&[(&product, 1)])).await?;
    let confirmed = shop.by_style(CONFIRMED.as_slice(), &[ORCHESTRATED]);
    shop.until_trace(&placed, confirmed).await?;
    let cancelled = shop.cancel_traced(&order.order_id).await?;
    let expected = shop.by_style(
        include_str!("traces/cancelled_after_confirmation.txt"),
        include_str!("traces/orchestrated_cancelled_after_confirmation.txt"),
    );
    let spans = shop.until_trace(&cancelled, &[expected]).await?;
    check_attributes(&spans, &order.order_id)?;
    shop.until_trace(&placed, confirmed).await?;
    Ok(())
}

pub(crate) async fn cancelled_before(shop: Shop) -> anyhow::Result<()> {
    let product = shop.product(5).await?;
    shop.stack.sigterm(Part::Products).await?;
    let (placed, order) = shop.place_traced(request(&[(&product, 1)])).await?;
    shop.until_process(&placed, "orders", "DeliveryStarted").await?;
    let cancelled = shop.cancel_traced(&order.order_id).await?;
    shop.stack.start(Part::Products).await?;
    let expected = include_str!("traces/placed_and_cancelled_before_confirmation.txt");
    let spans = shop.until_trace(&placed, &[expected]).await?;
    check_attributes(&spans, &order.order_id)?;
    let expected = include_str!("traces/cancelled_before_confirmation.txt");
    let spans = shop.until_trace(&cancelled, &[expected]).await?;
    check_attributes(&spans, &order.order_id)
}

pub(crate) async fn out_of_stock(shop: Shop) -> anyhow::Result<()> {
    let product = shop.product(1).await?;
    let (trace_id, order) = shop.place_traced(request(&[(&product, 2)])).await?;
    let expected = shop.by_style(
        include_str!("traces/out_of_stock.txt"),
        include_str!("traces/orchestrated_out_of_stock.txt"),
    );
    let spans = shop.until_trace(&trace_id, &[expected]).await?;
    check_attributes(&spans, &order.order_id)?;
    if shop.style == Coordination::Orchestration {
        return Ok(());
    }
    let own = spans.iter().find(|span| {
        span.service == "products" && span.attribute("settle.outcome") == "own_origin"
    });
    assert!(own.is_some(), "products recognises the consequence of its own decision");
    Ok(())
}

/// Commands and answers are one staircase; the participants that are not meant pass the order over.
pub(crate) async fn orchestrated(shop: Shop) -> anyhow::Result<()> {
    let product = shop.product(5).await?;
    let (trace_id, order) = shop.place_traced(request(&[(&product, 1)])).await?;
    let spans = shop.until_trace(&trace_id, &[ORCHESTRATED]).await?;
    check_attributes(&spans, &order.order_id)
}

/// They wait in one batch, and each keeps its own trace.
pub(crate) async fn after_products_was_down(shop: Shop) -> anyhow::Result<()> {
    let product = shop.product(50).await?;
    shop.stack.sigterm(Part::Products).await?;
    let mut placed = Vec::new();
    for _ in 0..20 {
        placed.push(shop.place_traced(request(&[(&product, 1)])).await?);
    }
    for (trace_id, _) in &placed {
        shop.until_process(trace_id, "orders", "DeliveryStarted").await?;
    }
    shop.stack.start(Part::Products).await?;
    for (trace_id, order) in &placed {
        let spans = shop.until_trace(trace_id, &CONFIRMED[..1]).await?;
        check_attributes(&spans, &order.order_id)?;
    }
    let is_batch = |span: &Seen| {
        let size = span.attribute("db.operation.batch.size").parse().unwrap_or(0);
        span.name == "transaction products" && size > 1
    };
    let batch = shop.collector.find(is_batch).await?;
    assert!(batch.iter().any(|span| span.links.len() > 1), "no batch at all: {batch:?}");
    Ok(())
}

pub(crate) async fn duplicate(shop: Shop) -> anyhow::Result<()> {
    let product = shop.product(5).await?;
    let (trace_id, order) = shop.place_traced(request(&[(&product, 1)])).await?;
    let spans = shop.until_trace(&trace_id, &CONFIRMED).await?;
    let created = created(&spans, "OrderPlaced")?;
    let events = shop.events(&order.order_id);
    let is_it = |event: &&Event| event.short_type() == "OrderPlaced";
    let event = events.iter().find(is_it).context("the event")?;
    let mut again = headers_of(event);
    again.push(("traceparent", format!("00-{trace_id}-{}-01", created.span_id)));
    let payload = event.payload.to_string();
    let sender = Sender::new(shop.stack.kafka_bootstrap())?;
    sender.send(&event.topic, &order.order_id, &again, payload.as_bytes()).await?;
    let twice = [
        include_str!("traces/duplicate_confirmed_by_stock.txt"),
        include_str!("traces/duplicate_confirmed_by_delivery.txt"),
    ];
    let spans = shop.until_trace(&trace_id, &twice).await?;
    check_attributes(&spans, &order.order_id)
}

pub(crate) async fn retried(shop: Shop) -> anyhow::Result<()> {
    let product = shop.product(5).await?;
    let database = shop.database(Part::Products).await?;
    let hiccup = "
        create sequence hiccups;
        create function hiccup() returns trigger language plpgsql as $$
        begin
            if nextval('hiccups') = 1 then
                raise exception 'hiccup' using errcode = '40001';
            end if;
            return new;
        end $$;
        create trigger hiccup before insert on reservations for each row execute function hiccup()";
    sqlx::raw_sql(hiccup).execute(&database).await?;
    let (trace_id, order) = shop.place_traced(request(&[(&product, 1)])).await?;
    let expected = [
        include_str!("traces/retried_confirmed_by_stock.txt"),
        include_str!("traces/retried_confirmed_by_delivery.txt"),
    ];
    let spans = shop.until_trace(&trace_id, &expected).await;
    sqlx::raw_sql(
        "drop trigger hiccup on reservations; drop function hiccup; drop sequence hiccups",
    )
    .execute(&database)
    .await?;
    let spans = spans?;
    check_attributes(&spans, &order.order_id)?;
    let failed: Vec<_> = spans.iter().filter(|span| span.error.is_some()).collect();
    assert_eq!(failed.len(), 3, "the attempt and the events that it took back: {failed:#?}");
    for span in failed {
        assert_eq!(span.events, ["exception"]);
        assert!(span.error.as_deref().unwrap_or_default().contains("rolled back"), "{span:?}");
    }
    Ok(())
}

pub(crate) async fn unsampled(shop: Shop) -> anyhow::Result<()> {
    let product = shop.product(5).await?;
    let given = Uuid::now_v7().simple().to_string();
    let mut unsampled = Request::new(request(&[(&product, 1)]));
    let traceparent = format!("00-{given}-00f067aa0ba902b7-00");
    unsampled.metadata_mut().insert("traceparent", traceparent.parse()?);
    let answer = shop.orders.clone().place_order(unsampled).await?;
    assert_eq!(trace_id(answer.metadata())?, given);
    let order = answer.into_inner().order.context("an order")?;
    shop.until_order(&order.order_id, OrderState::Confirmed).await?;
    // Whatever it exported went before this.
    let (behind, _) = shop.place_traced(request(&[(&product, 1)])).await?;
    shop.until_trace(&behind, &CONFIRMED).await?;
    let about = |span: &Seen| {
        span.name.starts_with("shop.orders.v1.OrderService/Place")
            || span.kind != SpanKind::Server && span.service != "e2e"
    };
    let is_one = |span: &Seen| {
        span.trace_id == given
            || about(span) && span.attribute("messaging.message.conversation_id") == order.order_id
    };
    let spans = shop.collector.find(is_one).await?;
    assert!(spans.is_empty(), "{spans:#?}");
    Ok(())
}

/// What reacts to it begins a trace of its own.
pub(crate) async fn old(shop: Shop) -> anyhow::Result<()> {
    let order_id = Uuid::now_v7().to_string();
    let (long_ago, span) = (Uuid::now_v7().simple().to_string(), "00f067aa0ba902b7");
    let mut sent = headers("shop.orders.v1.OrderCancelled", &order_id);
    sent.push(("traceparent", format!("00-{long_ago}-{span}-01")));
    let payload = format!(r#"{{"orderId": "{order_id}", "reason": "CANCEL_REASON_CUSTOMER"}}"#);
    let sender = Sender::new(shop.stack.kafka_bootstrap())?;
    sender.send("shop.orders.events", &order_id, &sent, payload.as_bytes()).await?;
    let spans = until("products and delivery have handled it", async || {
        let is_one = |span: &Seen| {
            span.attribute("messaging.message.conversation_id") == order_id
                && span.kind != SpanKind::Server
        };
        let spans = shop.collector.find(is_one).await?;
        ensure!(spans.len() == 2, "{spans:#?}");
        Ok(spans)
    })
    .await?;
    let services: HashSet<_> = spans.iter().map(|span| span.service.as_str()).collect();
    assert_eq!(services, HashSet::from(["products", "delivery"]));
    for root in spans {
        assert_eq!(
            (root.name.as_str(), root.kind),
            ("process shop.orders.events", SpanKind::Consumer)
        );
        assert!(root.parent.is_empty() && root.trace_id != long_ago, "{root:?}");
        assert_eq!(root.links, [(long_ago.clone(), span.to_owned())]);
    }
    assert!(shop.collector.trace(&long_ago).await?.is_empty());
    Ok(())
}

/// A message that names no trace begins one.
pub(crate) async fn foreign(shop: Shop) -> anyhow::Result<()> {
    let order_id = Uuid::now_v7().to_string();
    let sent = headers("shop.orders.v1.OrderCancelled", &order_id);
    let payload = format!(r#"{{"orderId": "{order_id}", "reason": "CANCEL_REASON_CUSTOMER"}}"#);
    let sender = Sender::new(shop.stack.kafka_bootstrap())?;
    sender.send("shop.orders.events", &order_id, &sent, payload.as_bytes()).await?;
    until("products and delivery have handled it", async || {
        let of = |span: &Seen| span.attribute("messaging.message.conversation_id") == order_id;
        let spans = shop.collector.find(of).await?;
        let roots = spans.iter().filter(|span| span.parent.is_empty() && span.links.is_empty());
        ensure!(spans.len() == 2 && roots.count() == 2, "{spans:#?}");
        Ok(())
    })
    .await
}

/// Every answer names its trace, and the span of a failed call says how it ended.
pub(crate) async fn refused(shop: Shop) -> anyhow::Result<()> {
    let refused = shop.orders.clone().place_order(PlaceOrderRequest::default()).await;
    let refused = refused.expect_err("an empty request");
    let missing = shop.delivery_of(&Uuid::now_v7().to_string()).await.expect_err("no delivery");
    let missing = missing.downcast::<tonic::Status>()?;
    for (status, code) in [(refused, "INVALID_ARGUMENT"), (missing, "NOT_FOUND")] {
        let spans = shop.until_spans(&trace_id(status.metadata())?).await?;
        let [span] = &spans[..] else { bail!("{spans:#?}") };
        assert_eq!((span.kind, &span.error), (SpanKind::Server, &None), "the caller's mistake");
        assert_eq!(span.attribute("rpc.response.status_code"), code);
    }
    Ok(())
}

/// How a stream ended stands in its trailers; whoever goes away has cancelled it.
pub(crate) async fn streams(shop: Shop) -> anyhow::Result<()> {
    let product = shop.product(5).await?;
    let (_, order) = shop.place_traced(request(&[(&product, 1)])).await?;
    for (timeout, code, is_error) in
        [(60_000, "CANCELLED", false), (5_000, "DEADLINE_EXCEEDED", true)]
    {
        let watch = WatchOrderRequest { order_id: order.order_id.clone(), after_revision: 0 };
        let mut watch = Request::new(watch);
        watch.set_timeout(Duration::from_millis(timeout));
        let answer = shop.orders.clone().watch_order(watch).await?;
        let trace_id = trace_id(answer.metadata())?;
        let mut states = answer.into_inner();
        states.message().await?.context("the first state")?;
        if is_error {
            while states.message().await.is_ok_and(|state| state.is_some()) {}
        }
        drop(states);
        let spans = shop.until_spans(&trace_id).await?;
        let [span] = &spans[..] else { bail!("{spans:#?}") };
        assert_eq!(span.attribute("rpc.response.status_code"), code);
        assert_eq!(span.attribute("messaging.message.conversation_id"), order.order_id);
        assert_eq!(span.error.is_some(), is_error, "{span:#?}");
    }
    Ok(())
}

/// The live check is a call within the call; what products answered is part of the same trace.
pub(crate) async fn shows_the_check(
    shop: &Shop,
    trace_id: &str,
    order_id: &str,
    failed: Option<&str>,
) -> anyhow::Result<()> {
    const METHOD: &str = "shop.products.v1.ProductService/CheckAvailability";
    until("the check is in the trace", async || {
        let spans = shop.collector.trace(trace_id).await?;
        let root = spans.iter().find(|span| span.parent.is_empty()).context("no root")?;
        let is_check = |span: &&Seen| span.name == METHOD && span.kind == SpanKind::Client;
        let check = spans.iter().find(is_check).context("no check")?;
        ensure!(check.service == "orders" && check.parent == root.span_id, "{check:#?}");
        let answered = check.attribute("rpc.response.status_code");
        ensure!(answered == failed.unwrap_or("OK"), "{check:#?}");
        ensure!(check.error.is_some() == failed.is_some(), "{check:#?}");
        if failed.is_some() {
            return Ok(());
        }
        let answer = spans.iter().find(|span| span.parent == check.span_id).context("no answer")?;
        ensure!(answer.service == "products" && answer.kind == SpanKind::Server, "{answer:#?}");
        for span in [root, check, answer] {
            let about = span.attribute("messaging.message.conversation_id");
            ensure!(about == order_id, "{span:#?}");
        }
        Ok(())
    })
    .await
}

/// A line of JSON with this message names this trace, and a span of it.
pub(crate) async fn is_in_the_log(
    shop: &Shop,
    part: Part,
    message: &str,
    trace_id: &str,
) -> anyhow::Result<()> {
    let log = std::fs::read_to_string(shop.stack.log(part))?;
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let spans = shop.collector.trace(trace_id).await?;
    let found = lines.into_iter().any(|line| {
        line["message"] == message
            && line["trace_id"] == trace_id
            && spans.iter().any(|span| line["span_id"] == span.span_id.as_str())
    });
    ensure!(found, "no line {message:?} with {trace_id} in {log}");
    Ok(())
}

/// A collector that answers nothing, one that is not waited for, and one that is not there, cost the spans and nothing
/// else.
pub(crate) async fn no_collector(shop: Shop) -> anyhow::Result<()> {
    let product = shop.product(5).await?;
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let silent = format!("http://{}", listener.local_addr()?);
    for (endpoint, timeout) in [(silent.as_str(), ""), (&silent, "200"), ("http://127.0.0.1:1", "")]
    {
        trace_to(&shop.stack, endpoint);
        for part in [Part::Orders, Part::Relay] {
            shop.stack.set_env(part, "OTEL_EXPORTER_OTLP_TIMEOUT", timeout);
            assert!(shop.stack.sigterm(part).await?.success());
            shop.stack.start(part).await?;
        }
        let order = shop.place(&product, 1).await?;
        shop.until_order(&order.order_id, OrderState::Confirmed).await?;
        for part in [Part::Orders, Part::Relay] {
            // A silent one has them until it is given up.
            if (endpoint, timeout) != (&silent, "") {
                counts_dropped_spans(&shop, part).await?;
            }
            let asked = Instant::now();
            assert!(shop.stack.sigterm(part).await?.success());
            let took = asked.elapsed();
            assert!(took < Duration::from_secs(8), "{part:?} took {took:?}");
            shop.stack.set_env(part, "OTEL_EXPORTER_OTLP_TIMEOUT", "");
        }
        trace_to(&shop.stack, &shop.collector.endpoint);
        shop.stack.start(Part::Orders).await?;
        shop.stack.start(Part::Relay).await?;
    }
    Ok(())
}

/// Services and relay reach a collector as the standard variables say.
pub(crate) async fn guarded_collector(shop: Shop) -> anyhow::Result<()> {
    let (collector, certificate) = Collector::guarded("Bearer it").await?;
    let file = shop.stack.dir().path().join("collector.pem");
    std::fs::write(&file, certificate)?;
    let settings = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint.as_str()),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20it"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ("SSL_CERT_FILE", file.to_str().context("a path in plain text")?),
    ];
    let parts = [Part::Orders, Part::Relay];
    for part in parts {
        settings.iter().for_each(|(name, value)| shop.stack.set_env(part, *name, *value));
        shop.stack.sigterm(part).await?;
        shop.stack.start(part).await?;
    }
    let product = shop.product(5).await?;
    shop.place(&product, 1).await?;
    for service in ["orders", "outbox-relay"] {
        until(&format!("spans of {service} came to the guarded collector"), async || {
            let found = collector.find(|span| span.service == service).await?;
            ensure!(!found.is_empty());
            Ok(())
        })
        .await?;
    }
    for part in parts {
        // SSL_CERT_FILE stays: nothing else is encrypted here.
        settings[1..3].iter().for_each(|(name, _)| shop.stack.set_env(part, *name, ""));
        trace_to(&shop.stack, &shop.collector.endpoint);
        shop.stack.sigterm(part).await?;
        shop.stack.start(part).await?;
    }
    Ok(())
}

async fn counts_dropped_spans(shop: &Shop, part: Part) -> anyhow::Result<()> {
    until(&format!("{part:?} counts the spans it has dropped"), async || {
        let metrics = page(shop, part, "/metrics").await?;
        let counted =
            metrics.lines().find(|line| line.starts_with("telemetry_spans_dropped_total"));
        ensure!(counted.is_some_and(|line| !line.ends_with(" 0")), "{counted:?}");
        Ok(())
    })
    .await
}

/// Nothing came late: every trace that was compared is still what it was.
pub(crate) async fn nothing_more_came(shop: Shop) -> anyhow::Result<()> {
    for (trace_id, text) in shop.collector.compared() {
        let now = tree::render(&shop.collector.trace(&trace_id).await?)?;
        ensure!(now == text || now.contains(" duplicate"), "it was\n{text}\nand is\n{now}");
    }
    Ok(())
}

impl Shop {
    /// Places an order; the trace that its answer names.
    pub(crate) async fn place_traced(
        &self,
        mut request: PlaceOrderRequest,
    ) -> anyhow::Result<(String, Order)> {
        if request.coordination == 0 {
            request.set_coordination(self.style);
        }
        place_traced(self.orders.clone(), request).await
    }

    async fn cancel_traced(&self, order_id: &str) -> anyhow::Result<String> {
        let request = CancelOrderRequest { order_id: order_id.to_owned(), ..Default::default() };
        trace_id(self.orders.clone().cancel_order(request).await?.metadata())
    }

    /// The spans of a trace, once they are exactly one of these texts.
    pub(crate) async fn until_trace(
        &self,
        trace_id: &str,
        expected: &[&str],
    ) -> anyhow::Result<Vec<Seen>> {
        until("the trace is whole", async || {
            let spans = self.collector.trace(trace_id).await?;
            let text = tree::render(&spans)?;
            ensure!(expected.contains(&text.as_str()), "it is\n{text}");
            self.collector.remember(trace_id, text);
            Ok(spans)
        })
        .await
    }

    pub(crate) async fn until_spans(&self, trace_id: &str) -> anyhow::Result<Vec<Seen>> {
        until("the trace is there", async || {
            let spans = self.collector.trace(trace_id).await?;
            if spans.is_empty() { bail!("nothing yet") } else { Ok(spans) }
        })
        .await
    }

    async fn until_process(
        &self,
        trace_id: &str,
        service: &str,
        event_type: &str,
    ) -> anyhow::Result<()> {
        until(&format!("{service} has processed {event_type}"), async || {
            let spans = self.collector.trace(trace_id).await?;
            let is_it = |span: &Seen| {
                span.service == service
                    && span.name.starts_with("process ")
                    && span.attribute("cloudevents.event_type").ends_with(event_type)
            };
            ensure!(spans.iter().any(is_it), "{} spans", spans.len());
            Ok(())
        })
        .await
    }
}

/// Places an order; the trace that its answer names.
pub(crate) async fn place_traced(
    mut orders: OrderServiceClient<Channel>,
    request: PlaceOrderRequest,
) -> anyhow::Result<(String, Order)> {
    let answer = orders.place_order(request).await?;
    let trace_id = trace_id(answer.metadata())?;
    Ok((trace_id, answer.into_inner().order.context("an order")?))
}

pub(crate) fn trace_id(metadata: &MetadataMap) -> anyhow::Result<String> {
    Ok(metadata.get("x-trace-id").context("no x-trace-id")?.to_str()?.to_owned())
}

fn created(spans: &[Seen], event_type: &str) -> anyhow::Result<Seen> {
    let is_it = |span: &&Seen| {
        span.kind == SpanKind::Producer
            && span.attribute("cloudevents.event_type").ends_with(event_type)
    };
    spans.iter().find(is_it).cloned().context("no such creation")
}

/// What the text does not show: names, ids and times.
pub(crate) fn check_attributes(spans: &[Seen], order_id: &str) -> anyhow::Result<()> {
    let by_id: HashMap<_, _> = spans.iter().map(|span| (span.span_id.as_str(), span)).collect();
    for span in spans {
        let given = |name: &str| !span.attribute(name).is_empty();
        let has = |name: &str, value: &str| span.attribute(name) == value;
        let once = span.attributes.keys().all(|name| !name.ends_with("(twice)"));
        ensure!(once, "an attribute is there twice: {span:#?}");
        ensure!(has("messaging.message.conversation_id", order_id), "{span:#?}");
        ensure!(span.started <= span.ended, "{span:#?}");
        if span.kind == SpanKind::Server {
            ensure!(
                has("rpc.system.name", "grpc") && given("rpc.response.status_code"),
                "{span:#?}"
            );
            continue;
        }
        let (operation, topic) = span.name.split_once(' ').context("a name of two words")?;
        ensure!(has("messaging.system", "kafka"), "{span:#?}");
        ensure!(given("cloudevents.event_id") && given("cloudevents.event_type"), "{span:#?}");
        if span.name != "outbox wait" {
            ensure!(has("messaging.destination.name", topic), "{span:#?}");
            ensure!(has("messaging.operation.name", operation), "{span:#?}");
        }
        if operation == "create" {
            continue;
        }
        let above = by_id.get(span.parent.as_str()).context("a creation above")?;
        ensure!(has("cloudevents.event_id", above.attribute("cloudevents.event_id")), "{span:#?}");
        ensure!(span.started >= above.started, "{above:#?} before {span:#?}");
        if span.name != "outbox wait" {
            ensure!(given("messaging.destination.partition.id"), "{span:#?}");
            ensure!(given("messaging.kafka.offset"), "{span:#?}");
        }
        if span.kind == SpanKind::Consumer {
            ensure!(has("messaging.consumer.group.name", &span.service), "{span:#?}");
            ensure!(given("settle.outcome"), "{span:#?}");
        }
    }
    Ok(())
}
