//! The alarms and dashboards of `deploy/`, held against what the processes measure.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use anyhow::{Context as _, ensure};
use local::{Part, SERVICES};
use promql_parser::{
    parser::{self, Expr, LabelModifier, VectorSelector},
    util::{ExprVisitor, walk_expr},
};
use proto::orders::v1::OrderState;

use crate::{
    pages::page,
    shop::{Shop, trace_to, until},
};

/// What Prometheus adds to a series, and what it measures itself.
const TARGET_LABELS: [&str; 3] = ["service", "job", "instance"];
const OWN_METRIC: &str = "up";

/// Every metric that an alarm or a panel names exists, with the labels it is asked by.
pub(crate) async fn names(shop: Shop) -> anyhow::Result<()> {
    let product = shop.product(1).await?;
    let order = shop.place(&product, 1).await?;
    shop.until_order(&order.order_id, OrderState::Confirmed).await?;
    let files = expressions()?;
    ensure!(files.len() == 4, "files of alarms and dashboards: {:?}", files.keys());
    // Lags and gauges are measured every few seconds.
    until("everything is measured", async || {
        let live = measured(&shop).await?;
        for (file, expressions) in &files {
            ensure!(!expressions.is_empty(), "{file} asks for nothing");
            for expression in expressions {
                check(expression, &live).with_context(|| format!("{file}: {expression}"))?;
            }
        }
        Ok(())
    })
    .await
}

/// A collector gets what Prometheus does, by OpenTelemetry's names.
pub(crate) async fn pushed(shop: Shop) -> anyhow::Result<()> {
    let product = shop.product(1).await?;
    let order = shop.place(&product, 1).await?;
    shop.until_order(&order.order_id, OrderState::Confirmed).await?;
    shop.collector.forget_metrics();
    for (part, service) in [
        (Part::Orders, "orders"),
        (Part::Products, "products"),
        (Part::Delivery, "delivery"),
        (Part::Orchestrator, "orchestrator"),
        (Part::Relay, "outbox-relay"),
    ] {
        until(&format!("{service} has pushed everything"), async || {
            let pulled = families(&page(&shop, part, "/metrics").await?);
            let pushed = shop.collector.metrics(service);
            let pushed: BTreeSet<_> = pushed.iter().map(|name| name.replace('.', "_")).collect();
            ensure!(!pulled.is_empty() && pulled == pushed, "{pulled:?}, but {pushed:?}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// Whoever exports once an hour does so at his end, too.
pub(crate) async fn pushed_at_the_end(shop: Shop) -> anyhow::Result<()> {
    let parts = [(Part::Delivery, "delivery"), (Part::Relay, "outbox-relay")];
    for (part, service) in parts {
        shop.stack.set_env(part, "OTEL_METRIC_EXPORT_INTERVAL", "3600000");
        ensure!(shop.stack.sigterm(part).await?.success());
        shop.stack.start(part).await?;
        shop.collector.forget_metrics();
        ensure!(shop.stack.sigterm(part).await?.success());
        ensure!(!shop.collector.metrics(service).is_empty(), "{service} has pushed nothing");
    }
    trace_to(&shop.stack, &shop.collector.endpoint);
    for (part, _) in parts {
        shop.stack.start(part).await?;
    }
    Ok(())
}

/// The metrics of a page, without the units and the word that Prometheus' names end in.
fn families(page: &str) -> BTreeSet<String> {
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let names = types.filter_map(|line| line.split(' ').next());
    let bare = |name: &str| {
        let name = name.trim_end_matches("_total").trim_end_matches("_seconds");
        name.trim_end_matches("_bytes").to_owned()
    };
    names.filter(|name| *name != "target_info").map(bare).collect()
}

/// By file, what is asked of Prometheus.
fn expressions() -> anyhow::Result<BTreeMap<String, Vec<String>>> {
    let deploy = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy"));
    let mut files = BTreeMap::new();
    let alerts = std::fs::read_to_string(deploy.join("prometheus/alerts.yml"))?;
    let alerts: serde_json::Value = serde_yaml_ng::from_str(&alerts)?;
    files.insert("alerts.yml".to_owned(), under("expr", &alerts));
    for file in std::fs::read_dir(deploy.join("grafana/dashboards"))? {
        let path = file?.path();
        let dashboard: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path)?)?;
        files.insert(path.display().to_string(), under("expr", &dashboard));
    }
    Ok(files)
}

/// All texts of this name, however deep. Grafana's own variables become what they stand for.
fn under(name: &str, value: &serde_json::Value) -> Vec<String> {
    match value {
        serde_json::Value::Array(items) => items.iter().flat_map(|it| under(name, it)).collect(),
        serde_json::Value::Object(fields) => fields
            .iter()
            .flat_map(|(field, value)| match value.as_str() {
                Some(text) if field == name => vec![text.replace("$__rate_interval", "1m")],
                _ => under(name, value),
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// The labels of every series that the processes show, by name.
async fn measured(shop: &Shop) -> anyhow::Result<BTreeMap<String, BTreeSet<String>>> {
    let mut live: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for part in SERVICES.into_iter().chain([Part::Relay]) {
        let text = page(shop, part, "/metrics").await?;
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let series = line.rsplit_once(' ').map_or(line, |(series, _)| series);
            if series.is_empty() {
                continue;
            }
            let series = parser::parse(series).map_err(anyhow::Error::msg)?;
            let Expr::VectorSelector(VectorSelector { name: Some(name), matchers, .. }) = series
            else {
                anyhow::bail!("no series: {line}");
            };
            let labels = matchers.matchers.into_iter().map(|matcher| matcher.name);
            live.entry(name).or_default().extend(labels);
        }
    }
    Ok(live)
}

fn check(expression: &str, live: &BTreeMap<String, BTreeSet<String>>) -> anyhow::Result<()> {
    let expression = parser::parse(expression).map_err(anyhow::Error::msg)?;
    let mut names = Names { live, labels: BTreeSet::new(), asked: BTreeSet::new() };
    walk_expr(&mut names, &expression)?;
    let unknown: Vec<_> = names.asked.difference(&names.labels).collect();
    ensure!(unknown.is_empty(), "no series here has the labels {unknown:?}");
    Ok(())
}

/// The labels that an expression's series have, and those that it groups and chooses by.
struct Names<'a> {
    live: &'a BTreeMap<String, BTreeSet<String>>,
    labels: BTreeSet<String>,
    asked: BTreeSet<String>,
}

impl ExprVisitor for Names<'_> {
    type Error = anyhow::Error;

    fn pre_visit(&mut self, expression: &Expr) -> anyhow::Result<bool> {
        match expression {
            Expr::VectorSelector(selector) => self.selects(selector)?,
            Expr::MatrixSelector(matrix) => self.selects(&matrix.vs)?,
            Expr::Aggregate(aggregate) => {
                let by = aggregate.modifier.as_ref().map(LabelModifier::labels);
                self.asked.extend(by.into_iter().flat_map(|by| by.labels.clone()));
            }
            _ => {}
        }
        Ok(true)
    }
}

impl Names<'_> {
    fn selects(&mut self, selector: &VectorSelector) -> anyhow::Result<()> {
        let name = selector.name.as_deref().context("a series without a name")?;
        self.labels.extend(TARGET_LABELS.map(str::to_owned));
        self.asked.extend(selector.matchers.matchers.iter().map(|matcher| matcher.name.clone()));
        if name != OWN_METRIC {
            let labels = self.live.get(name).with_context(|| format!("nobody measures {name}"))?;
            self.labels.extend(labels.iter().cloned());
        }
        Ok(())
    }
}
