//! The files of deploy/, held against the programs they deploy; no container engine is needed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_yaml_ng::Value;

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(file: &str) -> String {
    std::fs::read_to_string(deploy().join(file)).unwrap()
}

/// The services of compose.yaml with their anchors merged in.
fn services() -> BTreeMap<String, Value> {
    let mut compose: Value = serde_yaml_ng::from_str(&read("compose.yaml")).unwrap();
    compose.apply_merge().unwrap();
    serde_yaml_ng::from_value(compose["services"].clone()).unwrap()
}

fn environment(service: &Value) -> BTreeMap<String, String> {
    serde_yaml_ng::from_value(service["environment"].clone()).unwrap_or_default()
}

fn words(list: &Value) -> Vec<String> {
    serde_yaml_ng::from_value(list.clone()).unwrap_or_default()
}

/// The services that run a program of ours, with their commands.
fn ours() -> BTreeMap<String, (Vec<String>, Value)> {
    let built = services().into_iter().filter(|(_, service)| service.get("build").is_some());
    built.map(|(name, service)| (name, (words(&service["command"]), service))).collect()
}

/// What is run from a checkout, against the others.
const CHECKING: [&str; 2] = ["chaos", "model"];

/// The programs that the workspace builds, but for those, and for the ones that a feature has to be asked for.
fn programs() -> BTreeSet<String> {
    let manifest = deploy().join("local/Cargo.toml");
    let metadata =
        cargo_metadata::MetadataCommand::new().manifest_path(manifest).no_deps().exec().unwrap();
    let targets = metadata.packages.iter().flat_map(|package| &package.targets);
    let programs = targets.filter(|it| it.is_bin() && it.required_features.is_empty());
    let programs = programs.map(|target| target.name.clone());
    programs.filter(|program| !CHECKING.contains(&program.as_str())).collect()
}

#[test]
fn every_image_is_pinned_to_a_version() {
    let mut images: Vec<String> =
        services().values().map(|service| service["image"].as_str().unwrap().to_owned()).collect();
    let dockerfile = read("Dockerfile");
    images.extend(
        dockerfile.lines().filter_map(|line| line.strip_prefix("FROM ")).map(str::to_owned),
    );
    for image in images.iter().filter(|image| *image != "settle:local") {
        let tag = image.split(' ').next().unwrap().split(':').nth(1).unwrap_or_default();
        assert!(
            tag.contains('.')
                && tag.trim_start_matches('v').starts_with(|c: char| c.is_ascii_digit()),
            "{image} is not pinned"
        );
    }
}

#[test]
fn containers_and_settle_up_run_the_same_kafka() {
    let image = services()["kafka"]["image"].clone();
    assert_eq!(image, Value::from(format!("apache/kafka:{}", local::KAFKA_VERSION)));
}

#[test]
fn the_image_holds_every_program_of_the_workspace() {
    let dockerfile = read("Dockerfile");
    let copied = dockerfile.lines().find_map(|line| line.trim().strip_prefix("&& cp ")).unwrap();
    let copied: BTreeSet<_> = copied
        .split_whitespace()
        .filter(|word| !word.starts_with('/'))
        .map(str::to_owned)
        .collect();
    assert_eq!(copied, programs());
}

#[test]
fn every_program_but_settle_runs_and_has_a_health_check() {
    let ours = ours();
    for program in programs().iter().filter(|program| *program != "settle") {
        let (command, service) = &ours[program];
        assert_eq!(command.first(), Some(program));
        assert!(service.get("healthcheck").is_some(), "{program} has no health check");
    }
}

#[test]
fn every_variable_is_one_that_the_program_knows() {
    let programs = Path::new(env!("CARGO_BIN_EXE_settle")).parent().unwrap();
    for (name, (command, service)) in ours() {
        let program = programs.join(&command[0]);
        let help = Command::new(&program).args(&command[1..]).arg("--help").output();
        let help = help.unwrap_or_else(|error| {
            panic!(
                "{}: {error}; build with `cargo build --workspace --bins` first",
                program.display()
            )
        });
        let help = String::from_utf8(help.stdout).unwrap();
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        for variable in environment(&service).keys() {
            let known = [format!("[env: {variable}="), format!("[env: {variable}]")];
            assert!(
                known.iter().any(|known| help.contains(known)),
                "{name} does not know {variable}"
            );
        }
    }
}

#[test]
fn every_port_is_published_on_loopback_where_the_program_listens() {
    for (name, (_, service)) in ours() {
        let environment = environment(&service);
        let listens: BTreeSet<_> = ["LISTEN", "METRICS_LISTEN", "RELAY_LISTEN"]
            .iter()
            .filter_map(|variable| environment.get(*variable)?.split(':').nth(1))
            .map(|port| format!("127.0.0.1:{port}:{port}"))
            .collect();
        let published: BTreeSet<_> = words(&service["ports"]).into_iter().collect();
        assert_eq!(published, listens, "the ports of {name}");
        if let Some(port) = words(&service["healthcheck"]["test"]).get(3) {
            assert!(
                published.contains(&format!("127.0.0.1:{port}:{port}")),
                "{name} is asked at {port}"
            );
        }
    }
}

#[test]
fn every_database_of_the_environment_is_made_by_the_init_script() {
    let made = read("postgres-init.sql");
    let urls: Vec<String> = ours()
        .values()
        .flat_map(|(_, service)| environment(service))
        .filter(|(variable, _)| variable == "DATABASE_URL" || variable == "RELAY_SOURCES")
        .flat_map(|(_, value)| value.split(',').map(str::to_owned).collect::<Vec<_>>())
        .collect();
    assert_eq!(urls.len(), 2 * local::SERVICES.len(), "every service and each source of the relay");
    for url in urls {
        let (_, rest) = url.split_once("postgres://").unwrap();
        let (login, place) = rest.split_once('@').unwrap();
        let (role, password) = login.split_once(':').unwrap();
        let database = place.strip_prefix("postgres:5432/").unwrap();
        assert!(
            made.contains(&format!("create role {role} login password '{password}';")),
            "{url}"
        );
        assert!(made.contains(&format!("create database {database} owner {database};")), "{url}");
    }
}

#[test]
fn every_role_that_the_migrations_grant_to_is_made_by_the_init_script() {
    let made = read("postgres-init.sql");
    let messaging = deploy().join("../migrations/messaging");
    let migrations = std::fs::read_dir(messaging).unwrap();
    let text: String =
        migrations.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect();
    let roles: BTreeSet<&str> = text
        .split("where rolname = '")
        .skip(1)
        .filter_map(|rest| rest.split('\'').next())
        // It is for services that do not own their tables; ours do.
        .filter(|role| *role != "outbox_writer")
        .collect();
    assert!(!roles.is_empty());
    for role in roles {
        assert!(made.contains(&format!("create role {role} login")), "{role}");
    }
}

/// Name and address of what Prometheus scrapes.
fn scraped(file: &str) -> BTreeMap<String, String> {
    let configuration: Value = serde_yaml_ng::from_str(&read(file)).unwrap();
    let targets = configuration["scrape_configs"][0]["static_configs"].as_sequence().unwrap();
    let one = |target: &Value| {
        let name = target["labels"]["service"].as_str().unwrap().to_owned();
        (name, target["targets"][0].as_str().unwrap().to_owned())
    };
    targets.iter().map(one).collect()
}

#[test]
fn prometheus_scrapes_every_process_where_it_listens() {
    let mut listens = BTreeMap::new();
    for (name, (_, service)) in ours() {
        let environment = environment(&service);
        let address = environment.get("METRICS_LISTEN").or_else(|| environment.get("RELAY_LISTEN"));
        if let Some(address) = address {
            listens.insert(name, address.split(':').nth(1).unwrap().to_owned());
        }
    }
    let at = |host: &dyn Fn(&str) -> String| -> BTreeMap<String, String> {
        listens
            .iter()
            .map(|(name, port)| (name.clone(), format!("{}:{port}", host(name))))
            .collect()
    };
    assert_eq!(scraped("prometheus/containers.yml"), at(&str::to_owned));
    assert_eq!(scraped("prometheus/prometheus.yml"), at(&|_| "127.0.0.1".to_owned()));
    let help = Command::new(env!("CARGO_BIN_EXE_settle")).args(["up", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    for (name, port) in &listens {
        let above = if name == "outbox-relay" { 0 } else { 1000 };
        let flag = format!("[default: {}]", port.parse::<u16>().unwrap() - above);
        assert!(help.contains(&flag), "{name} listens elsewhere by default");
    }
}

#[test]
fn every_alarm_is_seen_to_fire_and_to_keep_quiet() {
    let list = |value: &Value| value.as_sequence().cloned().unwrap_or_default();
    let rules: Value = serde_yaml_ng::from_str(&read("prometheus/alerts.yml")).unwrap();
    let groups = list(&rules["groups"]);
    let alarms: BTreeSet<String> = groups
        .iter()
        .flat_map(|group| list(&group["rules"]))
        .map(|rule| rule["alert"].as_str().unwrap().to_owned())
        .collect();
    let tests: Value = serde_yaml_ng::from_str(&read("prometheus/alerts_test.yml")).unwrap();
    let cases = list(&tests["tests"]).into_iter().flat_map(|test| list(&test["alert_rule_test"]));
    let (fire, keep_quiet): (Vec<_>, Vec<_>) =
        cases.partition(|case| !list(&case["exp_alerts"]).is_empty());
    for cases in [fire, keep_quiet] {
        let seen = cases.iter().map(|case| case["alertname"].as_str().unwrap().to_owned());
        assert_eq!(seen.collect::<BTreeSet<_>>(), alarms);
    }
}

#[test]
fn the_collectors_pipelines_consist_of_what_is_configured_and_keep_errors() {
    let collector: Value = serde_yaml_ng::from_str(&read("otel-collector.yaml")).unwrap();
    for signal in ["traces", "metrics"] {
        let pipeline = &collector["service"]["pipelines"][signal];
        for kind in ["receivers", "processors", "exporters"] {
            let used = words(&pipeline[kind]);
            assert!(!used.is_empty(), "{signal}: {kind}");
            for name in used {
                assert!(collector[kind].get(&name).is_some(), "{kind} have no {name}");
            }
        }
    }
    let policies = collector["processors"]["tail_sampling"]["policies"].as_sequence().unwrap();
    let errors = policies.iter().any(|policy| {
        policy["type"] == "status_code"
            && words(&policy["status_code"]["status_codes"]) == ["ERROR"]
    });
    assert!(errors, "{policies:?}");
}

#[test]
fn every_mounted_file_exists_and_grafana_finds_its_dashboards() {
    let services = services();
    for (name, service) in &services {
        for volume in words(&service["volumes"]) {
            let (source, _) = volume.split_once(':').unwrap();
            let mounted = !source.starts_with('.') || deploy().join(source).exists();
            assert!(mounted, "{name} mounts {source}");
        }
    }
    let provider: Value =
        serde_yaml_ng::from_str(&read("grafana/provisioning/dashboards/settle.yaml")).unwrap();
    let path = provider["providers"][0]["options"]["path"].as_str().unwrap();
    let mounts = words(&services["grafana"]["volumes"]);
    assert!(mounts.contains(&format!("./grafana/dashboards:{path}:ro")), "{mounts:?}");
}
