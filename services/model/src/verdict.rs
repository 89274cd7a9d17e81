//! Looks at every state of a world, and says what it found: nothing, or the shortest way to break a property.

use std::time::{Duration, Instant};

use stateright::{Checker as _, HasDiscoveries, Model as _};

use crate::checking::World;

/// What came of it.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// States that were come to, counted as often as they were.
    pub states: usize,
    /// Different ones.
    pub unique: usize,
    /// The longest of the shortest ways to them.
    pub depth: usize,
    /// How long it took.
    pub took: Duration,
    /// The property that does not hold.
    pub broken: Option<Broken>,
}

/// How a property is broken.
#[derive(Clone, Debug)]
pub struct Broken {
    /// Which.
    pub property: &'static str,
    /// How it begins.
    pub start: String,
    /// The shortest way there.
    pub steps: Vec<String>,
}

/// Looks at every state, or until a property is broken.
pub fn check(world: &World, threads: usize) -> Verdict {
    let began = Instant::now();
    let (mut verdict, mut found) = look(world, threads, None);
    // The checker goes on for some states after it has found something, and forgets a shorter way for a longer one.
    while let Some(broken) = found {
        let depth = broken.steps.len();
        verdict.broken = Some(broken);
        found = look(world, threads, Some(depth)).1;
    }
    Verdict { took: began.elapsed(), ..verdict }
}

/// Looks at the states that take fewer than so many steps.
fn look(world: &World, threads: usize, fewer_than: Option<usize>) -> (Verdict, Option<Broken>) {
    let mut checker =
        world.clone().checker().threads(threads).finish_when(HasDiscoveries::AnyFailures);
    if let Some(steps) = fewer_than {
        // The first state has a depth of 1, and those of the target are left out.
        checker = checker.target_max_depth(steps + 1);
    }
    let checker = checker.spawn_bfs().join();
    let found = checker.discoveries().into_iter().map(|(property, path)| Broken {
        property,
        start: path.clone().into_states().first().map(ToString::to_string).unwrap_or_default(),
        steps: path.into_actions().iter().map(ToString::to_string).collect(),
    });
    let verdict = Verdict {
        states: checker.state_count(),
        unique: checker.unique_state_count(),
        depth: checker.max_depth(),
        took: Duration::ZERO,
        broken: None,
    };
    (verdict, found.min_by_key(|broken| (broken.steps.len(), broken.property)))
}
