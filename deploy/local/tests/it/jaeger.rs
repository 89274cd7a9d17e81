//! Where a Jaeger comes from, and what is said where none does. What it is sent is tested with the shop, end to end.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use local::JAEGER_VERSION;

/// `settle` with this directory on the PATH, and no other that has a Jaeger.
fn settle(arguments: &[&str], path: &Path) -> Output {
    let dirs = std::env::var_os("PATH").unwrap();
    let dirs = std::env::split_paths(&dirs).filter(|dir| !dir.join("jaeger").exists());
    let dirs = std::env::join_paths(dirs.chain([path.to_owned()])).unwrap();
    Command::new(env!("CARGO_BIN_EXE_settle")).args(arguments).env("PATH", dirs).output().unwrap()
}

/// A program of that name that does this.
fn program(file: &Path, script: &str) {
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

#[test]
fn without_a_jaeger_the_ways_to_one_are_named_and_nothing_is_started() {
    let nothing = tempfile::tempdir().unwrap();
    let cache = nothing.path().to_str().unwrap();
    let refused =
        settle(&["infra", "--jaeger", "--cache-dir", cache, "--", "true"], nothing.path());
    let told = text(refused.stderr);
    assert_eq!(refused.status.code(), Some(1));
    for way in ["Jaeger is missing", "on the PATH", "deploy/jaeger/build", "--jaeger=http://"] {
        assert!(told.contains(way), "{way}: {told}");
    }
    assert!(!told.contains("ready"), "{told}");
}

#[test]
fn a_jaeger_that_ends_by_itself_is_told_with_its_last_words() {
    let dir = tempfile::tempdir().unwrap();
    program(&dir.path().join("jaeger"), "echo 'no such setting' >&2; exit 3");
    let refused = settle(&["infra", "--jaeger", "--", "true"], dir.path());
    let told = text(refused.stderr);
    assert_eq!(refused.status.code(), Some(1));
    assert!(told.contains("jaeger ended by itself (exit status: 3)"), "{told}");
    assert!(told.contains("no such setting"), "{told}");
}

#[test]
fn a_collector_that_does_not_answer_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let programs = Path::new(env!("CARGO_BIN_EXE_settle")).parent().unwrap();
    assert!(programs.join("orders").exists(), "build with `cargo build --workspace --bins` first");
    let gone = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let jaeger = format!("--jaeger=http://{gone}");
    let data = dir.path().to_str().unwrap();
    let refused = settle(&["up", "--free-ports", "--data-dir", data, &jaeger], dir.path());
    let told = text(refused.stderr);
    assert_eq!(refused.status.code(), Some(1));
    assert!(told.contains(&format!("no OTLP collector answers at http://{gone}")), "{told}");
    assert!(!told.contains("ready"), "{told}");
}

/// deploy/jaeger/build, with nothing to be had from the module proxy.
fn build(cache: &Path) -> Output {
    let script: PathBuf = [env!("CARGO_MANIFEST_DIR"), "../jaeger/build"].iter().collect();
    let mut build = Command::new(script);
    build.env("SETTLE_CACHE_DIR", cache).env("GOPROXY", "off").output().unwrap()
}

#[test]
fn what_was_built_once_is_where_settle_looks_for_it() {
    let cache = tempfile::tempdir().unwrap();
    let built = cache.path().join(format!("jaeger-{JAEGER_VERSION}/jaeger"));
    program(&built, "true");
    let found = build(cache.path());
    assert_eq!(text(found.stdout).trim_end(), built.to_str().unwrap(), "{JAEGER_VERSION}");
}

#[test]
fn what_cannot_be_fetched_is_skipped_aloud_and_leaves_nothing_behind() {
    let cache = tempfile::tempdir().unwrap();
    let skipped = build(cache.path());
    assert!(skipped.status.success());
    assert_eq!(text(skipped.stdout), "");
    let told = text(skipped.stderr);
    assert!(told.starts_with("Jaeger: SKIPPED, "), "{told}");
    assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 0);
}
