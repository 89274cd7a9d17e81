//! The shop as its users meet it: real processes, Postgres and Kafka. The scenarios share one stack, one after the other,
//! each with products of its own; whatever a scenario stops, it starts again.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on should stop"
)]

mod browser;
mod collector;
mod held;
mod jaeger;
mod pages;
mod pictures;
mod shop;
mod standstill;
mod tree;

mod bad_input;
mod dashboards;
mod idempotency;
mod injected;
mod middle;
mod outages;
mod races;
mod reconciler;
mod sagas;
mod shutdown;
mod stock_check;
mod storefront;
mod styles;
mod traces;
mod walkthrough;

use std::sync::{Arc, OnceLock};

use libtest_mimic::{Arguments, Failed, Trial};
use proto::orders::v1::Coordination;
use shop::Shop;
use tokio::runtime::Runtime;

/// The stack, started by the first scenario that runs.
struct Stage {
    runtime: Runtime,
    /// Why it did not start, if it did not; nobody tries twice.
    shop: OnceLock<Result<Shop, String>>,
}

impl Stage {
    fn trial<F>(
        self: &Arc<Self>,
        name: &str,
        scenario: impl Fn(Shop) -> F + Send + 'static,
    ) -> Trial
    where
        F: Future<Output = anyhow::Result<()>>,
    {
        let stage = Arc::clone(self);
        Trial::test(name, move || {
            let open =
                || stage.runtime.block_on(Shop::open()).map_err(|error| format!("{error:?}"));
            let shop = stage.shop.get_or_init(open).as_ref()?;
            let ended = stage.runtime.block_on(scenario(shop.clone()));
            ended.map_err(|error| Failed::from(format!("{error:?}\n{}", shop.whereabouts())))
        })
    }

    /// The same scenario with orders that the orchestrator drives.
    fn orchestrated<F>(
        self: &Arc<Self>,
        name: &str,
        scenario: impl Fn(Shop) -> F + Send + 'static,
    ) -> Trial
    where
        F: Future<Output = anyhow::Result<()>>,
    {
        let driven = move |shop: Shop| scenario(shop.in_style(Coordination::Orchestration));
        self.trial(&format!("{name}_orchestrated"), driven)
    }
}

fn main() {
    let mut arguments = Arguments::from_args();
    // They share one stack, and stop parts of it.
    arguments.test_threads = Some(1);
    let runtime = Runtime::new().expect("start a runtime");
    let stage = Arc::new(Stage { runtime, shop: OnceLock::new() });
    let mut trials = vec![
        stage.trial(
            "an_order_is_confirmed_and_cancelled_and_the_stock_comes_back",
            walkthrough::confirm_and_cancel,
        ),
        stage.trial(
            "a_dispatched_order_cannot_be_cancelled_and_completes",
            walkthrough::dispatch_and_complete,
        ),
        stage.trial(
            "an_order_beyond_the_stock_is_cancelled_and_nothing_is_taken",
            walkthrough::out_of_stock,
        ),
        stage.trial(
            "an_order_of_several_products_is_reserved_whole_or_not_at_all",
            walkthrough::all_or_nothing,
        ),
        stage.trial("a_failed_delivery_cancels_its_order", walkthrough::delivery_fails),
        stage.trial("a_watch_shows_every_state_in_order_and_resumes", walkthrough::watch),
        stage.trial("every_service_tells_what_it_did_for_an_order", walkthrough::trail),
        stage.trial("the_causes_of_an_order_are_shown_as_a_tree", walkthrough::causes),
        stage.trial("the_demonstration_plays_to_its_end", walkthrough::demo),
        stage.trial("the_same_request_id_places_one_order", idempotency::same_request),
        stage.trial("a_request_id_is_not_reused_for_another_request", idempotency::other_content),
        stage.trial("the_last_piece_goes_to_one_of_two_customers", races::last_piece),
        stage.trial(
            "a_cancel_that_races_a_rejection_leaves_no_phantom_stock",
            races::cancel_while_rejected,
        ),
        stage.trial(
            "a_cancel_that_races_the_dispatch_is_decided_once",
            races::cancel_while_dispatched,
        ),
        stage.trial("bad_input_names_every_violation_and_writes_nothing", bad_input::violations),
        stage.trial("forbidden_transitions_are_refused", bad_input::forbidden),
        stage.trial("duplicated_and_reordered_events_change_nothing", injected::duplicates),
        stage.trial("an_undecodable_event_parks_its_key_and_others_flow", injected::poison),
        stage.trial("unknown_events_are_passed_over", injected::unknown),
        stage.trial("the_live_check_refuses_orders_while_products_is_down", stock_check::live),
        stage.trial("the_replica_check_refuses_a_known_shortage", stock_check::replica),
        stage.trial("orders_settle_after_products_was_down", outages::products),
        stage.trial("orders_settle_after_delivery_was_down", outages::delivery),
        stage.trial("orders_settle_after_the_relay_was_killed", outages::relay),
        stage.trial("orders_settle_after_kafka_was_down", outages::kafka),
        stage.trial("services_stop_in_time_while_kafka_is_down", outages::stop_without_kafka),
        stage.trial("orders_settle_after_postgres_was_restarted", outages::postgres),
        stage.trial("a_consumer_that_is_stuck_is_seen_from_outside", outages::stuck_consumer),
        stage.trial(
            "orders_settle_after_every_service_was_killed_in_turn",
            outages::kill_everything_in_turn,
        ),
        stage.trial("an_order_settles_though_any_event_was_lost", reconciler::lost),
        stage.trial("a_contradiction_is_counted_and_changes_nothing", reconciler::contradiction),
        stage.trial("the_trace_of_a_confirmed_order", traces::confirmed),
        stage.trial("the_trace_of_a_cancel_after_confirmation", traces::cancelled_after),
        stage.trial("the_traces_of_an_order_cancelled_while_pending", traces::cancelled_before),
        stage.trial("the_trace_of_an_order_out_of_stock", traces::out_of_stock),
        stage.orchestrated("the_trace_of_an_order", traces::orchestrated),
        stage.orchestrated("the_trace_of_a_cancel_after_confirmation", traces::cancelled_after),
        stage.orchestrated("the_trace_of_an_order_out_of_stock", traces::out_of_stock),
        stage.trial(
            "the_traces_of_a_batch_after_products_was_down",
            traces::after_products_was_down,
        ),
        stage.trial("the_trace_of_a_duplicate", traces::duplicate),
        stage.trial("the_trace_of_a_reaction_that_is_retried", traces::retried),
        stage.trial("the_trace_of_what_is_not_sampled_is_nowhere", traces::unsampled),
        stage.trial("the_trace_of_an_old_event_is_a_new_one", traces::old),
        stage.trial("the_trace_of_a_foreign_event_begins_with_it", traces::foreign),
        stage.trial("the_trace_of_a_refused_call_names_its_status", traces::refused),
        stage.trial("the_trace_of_a_stream_names_its_end", traces::streams),
        stage.trial("the_trace_of_nothing_compared_has_changed_since", traces::nothing_more_came),
        stage.trial("programs_run_and_stop_without_a_collector", traces::no_collector),
        stage.trial(
            "traces_go_encrypted_compressed_and_with_headers_to_a_collector",
            traces::guarded_collector,
        ),
        stage
            .trial("the_trace_of_an_order_is_in_the_jaeger_of_settle_up", |_| jaeger::of_its_own())
            .with_ignored_flag(!jaeger::can_be_started()),
        stage.trial("alarms_and_dashboards_name_what_is_measured", dashboards::names),
        stage.trial("a_collector_gets_the_metrics_that_prometheus_does", dashboards::pushed),
        stage.trial("a_collector_gets_the_last_metrics_at_the_end", dashboards::pushed_at_the_end),
        stage.trial("a_stop_during_load_loses_no_acknowledged_order", shutdown::under_load),
        stage.trial("a_stop_ends_watches_so_that_they_can_be_resumed", shutdown::watches_end),
    ];
    trials.extend(orchestrated(&stage));
    trials.extend(storefront::trials(&stage));
    let conclusion = libtest_mimic::run(&arguments, trials);
    if let Some(Ok(shop)) = stage.shop.get() {
        stage.runtime.block_on(shop.close());
    }
    conclusion.exit();
}

/// What holds in choreography holds in orchestration; and what only a saga can meet with.
fn orchestrated(stage: &Arc<Stage>) -> Vec<Trial> {
    vec![
        stage.orchestrated("an_order_is_confirmed_and_cancelled", walkthrough::confirm_and_cancel),
        stage.orchestrated(
            "a_dispatched_order_cannot_be_cancelled_and_completes",
            walkthrough::dispatch_and_complete,
        ),
        stage.orchestrated("an_order_beyond_the_stock_is_cancelled", walkthrough::out_of_stock),
        stage.orchestrated("an_order_is_reserved_whole_or_not_at_all", walkthrough::all_or_nothing),
        stage.orchestrated("a_failed_delivery_cancels_its_order", walkthrough::delivery_fails),
        stage.orchestrated("a_watch_shows_every_state_in_order_and_resumes", walkthrough::watch),
        stage.orchestrated("every_service_tells_what_it_did_for_an_order", walkthrough::trail),
        stage.orchestrated("the_causes_of_an_order_are_shown_as_a_tree", walkthrough::causes),
        stage.orchestrated("the_demonstration_plays_to_its_end", walkthrough::demo),
        stage.orchestrated("the_same_request_id_places_one_order", idempotency::same_request),
        stage.orchestrated("a_request_id_is_not_reused", idempotency::other_content),
        stage.orchestrated("the_last_piece_goes_to_one_of_two_customers", races::last_piece),
        stage.orchestrated("a_cancel_that_races_a_rejection", races::cancel_while_rejected),
        stage.orchestrated("a_cancel_that_races_the_dispatch", races::cancel_while_dispatched),
        stage.orchestrated("forbidden_transitions_are_refused", bad_input::forbidden),
        stage.orchestrated("an_undecodable_command_parks_its_key", injected::poison),
        stage.orchestrated("unknown_events_and_commands_are_passed_over", injected::unknown),
        stage.orchestrated("the_live_check_refuses_orders", stock_check::live),
        stage.orchestrated("the_replica_check_refuses_a_known_shortage", stock_check::replica),
        stage.orchestrated("orders_settle_after_products_was_down", outages::products),
        stage.orchestrated("orders_settle_after_delivery_was_down", outages::delivery),
        stage.orchestrated("orders_settle_after_the_orchestrator_was_down", outages::orchestrator),
        stage.orchestrated("orders_settle_after_the_relay_was_killed", outages::relay),
        stage.orchestrated("orders_settle_after_kafka_was_down", outages::kafka),
        stage.orchestrated("orders_settle_after_postgres_was_restarted", outages::postgres),
        stage.orchestrated("a_consumer_that_is_stuck_is_seen", outages::stuck_consumer),
        stage.orchestrated(
            "orders_settle_after_every_service_was_killed_in_turn",
            outages::kill_everything_in_turn,
        ),
        stage.orchestrated("a_kill_between_any_two_steps", middle::orchestrator_killed),
        stage.orchestrated("a_kill_of_each_participant_at_its_step", middle::participant_killed),
        stage.orchestrated("postgres_restarted_between_steps", middle::postgres_restarted),
        stage.orchestrated("a_full_disk_between_steps", middle::disk_full),
        stage.orchestrated("a_cancel_in_every_state", middle::cancelled_in_every_state),
        stage.orchestrated("a_confirmation_that_is_late_and_told_twice", sagas::late_confirmation),
        stage.orchestrated("a_deadline_while_the_success_is_on_its_way", sagas::deadline),
        stage.orchestrated("two_replicas_share_the_sagas", sagas::two_replicas),
        stage.orchestrated("duplicates_of_everything_change_nothing", sagas::duplicates),
        stage.orchestrated("what_cannot_be_undone_is_left_to_a_person", sagas::parked),
        stage.orchestrated("what_was_never_told_is_told_again", reconciler::never_told),
        stage.orchestrated("both_styles_end_the_same", styles::equal),
        stage.orchestrated("a_stop_during_load_loses_no_order", shutdown::under_load),
        stage.orchestrated("a_stop_ends_watches", shutdown::watches_end),
    ]
}
