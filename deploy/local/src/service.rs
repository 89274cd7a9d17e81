//! The programs of ours: what each is told by its environment.

use std::ffi::OsString;
use std::path::Path;

use crate::datadir::DataDir;
use crate::ports::Ports;
use crate::postgres;
use crate::process::{Part, Spec};

/// The services: each with a gRPC port, and a database and a role of its name.
pub const SERVICES: [Part; 4] = [Part::Products, Part::Delivery, Part::Orchestrator, Part::Orders];
/// The role the relay reads the outboxes with.
pub(crate) const RELAY_ROLE: &str = "outbox_relay";
/// The role that people run the relay's verbs with.
pub(crate) const OPERATOR_ROLE: &str = "outbox_operator";

/// What is the same for all programs of a stack.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Around<'a> {
    /// Kafka's address.
    pub(crate) bootstrap: &'a str,
    /// Where spans go, if anywhere.
    pub(crate) otlp: Option<&'a str>,
    /// Where they are shown, if that is known.
    pub(crate) jaeger: Option<&'a str>,
    /// Whether demonstration switches are allowed.
    pub(crate) demo: bool,
}

/// How to run a service, the storefront or the relay. The caller's own environment is passed on beneath what is set here.
pub(crate) fn spec(
    part: Part,
    programs: &Path,
    dir: &DataDir,
    ports: &Ports,
    around: &Around<'_>,
) -> Spec {
    let mut env = Vec::new();
    env.extend(around.otlp.map(|url| ("OTEL_EXPORTER_OTLP_ENDPOINT", url.to_owned())));
    if part != Part::Storefront {
        env.push(("KAFKA_BOOTSTRAP_SERVERS", around.bootstrap.to_owned()));
    }
    if part == Part::Relay {
        env.push(("RELAY_SOURCES", relay_sources(ports)));
        env.push(("RELAY_LISTEN", loopback(ports.relay)));
    } else {
        env.push(("LISTEN", loopback(ports.of(part))));
        env.extend(ports.metrics_of(part).map(|port| ("METRICS_LISTEN", loopback(port))));
    }
    if SERVICES.contains(&part) {
        env.push(("DATABASE_URL", postgres::url(ports.postgres, part.name(), part.name())));
        env.extend(around.demo.then(|| ("DEMO", "true".to_owned())));
    }
    if part == Part::Storefront {
        env.push(("STOREFRONT_OPERATOR", "true".to_owned()));
        env.push(("ORDERS_URL", grpc_url(ports, Part::Orders)));
        env.push(("PRODUCTS_URL", grpc_url(ports, Part::Products)));
        env.push(("DELIVERY_URL", grpc_url(ports, Part::Delivery)));
        env.push(("ORCHESTRATOR_URL", grpc_url(ports, Part::Orchestrator)));
        env.extend(around.jaeger.map(|url| ("SETTLE_JAEGER_URL", url.to_owned())));
    }
    if part == Part::Orders {
        env.push(("PRODUCTS_URL", grpc_url(ports, Part::Products)));
        env.push(("DELIVERY_URL", grpc_url(ports, Part::Delivery)));
    }
    let args: &[&str] = if part == Part::Relay { &["run"] } else { &[] };
    Spec {
        program: programs.join(part.name()),
        args: args.iter().map(OsString::from).collect(),
        env: env.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        dir: dir.path().to_owned(),
        user: None,
    }
}

/// The address of a service's gRPC calls.
pub(crate) fn grpc_url(ports: &Ports, part: Part) -> String {
    format!("http://{}", loopback(ports.of(part)))
}

fn relay_sources(ports: &Ports) -> String {
    let source = |part: &Part| {
        format!("{}={}", part.name(), postgres::url(ports.postgres, RELAY_ROLE, part.name()))
    };
    SERVICES.iter().map(source).collect::<Vec<_>>().join(",")
}

fn loopback(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variable_is_one_that_the_program_knows() {
        let (dir, programs) =
            (DataDir::temporary().unwrap(), crate::options::programs_beside_us().unwrap());
        for part in SERVICES.into_iter().chain([Part::Relay, Part::Storefront]) {
            let around = Around {
                bootstrap: "127.0.0.1:9092",
                otlp: Some("http://127.0.0.1:4317"),
                jaeger: Some("http://127.0.0.1:16686"),
                demo: true,
            };
            let spec = spec(part, &programs, &dir, &Ports::FREE, &around);
            let mut program = std::process::Command::new(&spec.program);
            let help = program.args(&spec.args).arg("--help").output();
            let help = help.expect("build with `cargo build --workspace --bins` first");
            let help = String::from_utf8(help.stdout).unwrap();
            let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
            for (variable, _) in &spec.env {
                assert!(
                    help.contains(&format!("[env: {variable}")),
                    "{} does not know {variable}",
                    part.name()
                );
            }
        }
    }
}
