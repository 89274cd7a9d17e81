//! What was kept of every corpus still holds, and every call and every message has its place in one.

use std::{
    collections::BTreeSet,
    fs,
    panic::catch_unwind,
    path::{Path, PathBuf},
};

use fuzz::{TARGETS, payloads::KINDS, requests::METHODS};

#[test]
fn what_was_kept_holds() {
    for (target, holds) in TARGETS {
        let kept = files(&corpus(target));
        assert!(kept.len() > 1, "the corpus of {target} is empty");
        for file in kept {
            let input = fs::read(&file).unwrap();
            assert!(catch_unwind(|| holds(&input)).is_ok(), "{} does not hold", file.display());
        }
    }
}

#[test]
fn every_target_is_a_program_that_cargo_fuzz_finds() {
    let manifest = fs::read_to_string(here().join("Cargo.toml")).unwrap();
    let programs = manifest.lines().filter_map(|line| line.strip_prefix("name = "));
    let programs: BTreeSet<&str> = programs.map(|name| name.trim_matches('"')).collect();
    let targets = TARGETS.iter().map(|(name, _)| *name).chain(["fuzz"]);
    assert_eq!(programs, targets.collect());
}

#[test]
fn every_call_is_among_the_requests() {
    let calls: BTreeSet<String> = protocol_files()
        .iter()
        .flat_map(|file| after(&fs::read_to_string(file).unwrap(), "  rpc ", '('))
        .collect();
    let checked: BTreeSet<String> = METHODS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(calls, checked);
}

#[test]
fn every_message_is_among_the_payloads() {
    let table = fs::read_to_string(here().join("../../proto/src/event.rs")).unwrap();
    let messages: BTreeSet<String> = after(&table, "impl Event for ", ' ').into_iter().collect();
    let checked = KINDS.iter().map(|(name, _)| name().rsplit('.').next().unwrap().to_owned());
    assert_eq!(messages, checked.collect());
}

/// The corpus of a target.
pub(crate) fn corpus(target: &str) -> PathBuf {
    here().join("corpus").join(target)
}

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

fn protocol_files() -> Vec<PathBuf> {
    let versions = files(&here().join("../../proto/shop")).into_iter().map(|it| it.join("v1"));
    versions.flat_map(|folder| files(&folder)).collect()
}

/// The words between `before` and `end`, one for each line that begins so.
fn after(text: &str, before: &str, end: char) -> Vec<String> {
    let lines = text.lines().filter_map(|line| line.strip_prefix(before));
    lines.filter_map(|rest| Some(rest.split_once(end)?.0.to_owned())).collect()
}
