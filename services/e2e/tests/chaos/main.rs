//! A short chaos run, and the checker itself: everything that it can find is planted by hand, and it names exactly that. All on
//! one shop.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on should stop"
)]

mod planted;
mod small;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use e2e::{
    load::{self, Shape},
    run::{self, Plan},
};
use libtest_mimic::{Arguments, Failed, Trial};
use small::Small;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

/// The shop with a few settled orders, opened by the first that wants it.
struct Stage {
    runtime: Runtime,
    /// Why it did not open, if it did not; nobody tries twice.
    small: OnceLock<Result<Small, String>>,
}

impl Stage {
    fn trial<F>(
        self: &Arc<Self>,
        name: &str,
        scenario: impl Fn(Small) -> F + Send + 'static,
    ) -> Trial
    where
        F: Future<Output = anyhow::Result<()>>,
    {
        let stage = Arc::clone(self);
        Trial::test(name, move || {
            let open =
                || stage.runtime.block_on(Small::open()).map_err(|error| format!("{error:?}"));
            let small = stage.small.get_or_init(open).as_ref()?;
            let ended = stage.runtime.block_on(scenario(small.clone()));
            ended.map_err(|error| Failed::from(format!("{error:?}")))
        })
    }
}

fn main() {
    let mut arguments = Arguments::from_args();
    // They share one shop.
    arguments.test_threads = Some(1);
    let runtime = Runtime::new().expect("start a runtime");
    let stage = Arc::new(Stage { runtime, small: OnceLock::new() });
    let trials = vec![
        stage.trial("a_settled_shop_has_no_findings", planted::nothing),
        stage.trial("a_lost_order_is_named", planted::lost),
        stage.trial("an_unsettled_order_is_named", planted::unsettled),
        stage.trial("an_undecided_cancellation_is_named", planted::undecided),
        stage.trial("a_parked_saga_is_named", planted::parked_saga),
        stage.trial("a_request_that_made_two_orders_is_named", planted::placed_twice),
        stage.trial("a_second_reservation_is_named", planted::reserved_twice),
        stage.trial("stock_out_of_nothing_is_named", planted::stock),
        stage.trial("a_replica_that_is_behind_is_named", planted::replica),
        stage.trial("shipped_and_cancelled_is_named", planted::shipped_and_cancelled),
        stage.trial("shipped_without_stock_is_named", planted::shipped_without_stock),
        stage.trial("rows_that_disagree_are_named", planted::rows),
        stage.trial("a_saga_that_disagrees_is_named", planted::saga),
        stage.trial("events_that_changed_places_are_named", planted::order_of_events),
        stage.trial("an_event_without_a_change_is_named", planted::event_without_change),
        stage.trial("a_change_without_its_event_is_named", planted::change_without_event),
        stage.trial("a_product_change_without_its_event_is_named", planted::version_without_event),
        stage.trial("a_parked_message_is_named", planted::parked),
        stage.trial("the_shop_keeps_its_word_under_faults", under_faults),
    ];
    let conclusion = libtest_mimic::run(&arguments, trials);
    if let Some(Ok(small)) = stage.small.get() {
        stage.runtime.block_on(small.arena.close()).expect("the shop stops");
    }
    conclusion.exit();
}

async fn under_faults(small: Small) -> anyhow::Result<()> {
    let plan = Plan {
        shape: Shape { rate: 10.0, ..shape() },
        seed: rand::random_range(0..1_000_000),
        lasts: Duration::from_secs(30),
        fault_every: Some(Duration::from_secs(2)),
        patience: Duration::from_secs(180),
    };
    load::stock_up(&small.arena, &plan.shape).await?;
    let never = CancellationToken::new();
    let outcome = run::run(&small.arena, &plan, &never, &|_: &str| {}).await?;
    let report = e2e::report::markdown("a test", &plan, &outcome);
    assert!(outcome.findings.is_empty() && outcome.unsettled.is_none(), "{report}");
    let settled = outcome.figures.counts.get("settled").copied().unwrap_or_default();
    assert!(settled > 100 && outcome.faults.len() > 5, "{report}");
    Ok(())
}

/// As the program has it by default.
fn shape() -> Shape {
    Shape {
        rate: 20.0,
        products: 5,
        hot: false,
        short: 0.1,
        orchestrated: 0.5,
        watched: 0.5,
        cancelled: 0.25,
        delivered: 0.5,
        restocked: 0.2,
    }
}
