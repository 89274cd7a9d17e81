//! The storefront in a real browser: what its visitors see, and when.

mod absence;
mod chain;
mod customer;
mod operator;
mod reader;

use std::sync::Arc;

use libtest_mimic::Trial;

use crate::{Stage, pictures};

/// Where an order stands, on its own page.
const STATE: &str = "#card .standing .badge";
/// What came of the act before.
const NOTICE: &str = "main > .banner[role=status]";

/// What a person sees.
pub(crate) fn trials(stage: &Arc<Stage>) -> Vec<Trial> {
    vec![
        stage.trial(
            "a_browser_sees_an_order_pending_and_then_confirmed_without_reloading",
            customer::pending_then_confirmed,
        ),
        stage.trial("a_browser_sees_its_list_of_orders_move", customer::list_moves),
        stage.trial("a_browser_cancels_and_the_stock_comes_back", customer::cancel),
        stage.trial("a_browser_is_told_why_an_order_was_cancelled", customer::too_much),
        stage.trial("two_browsers_see_each_others_stock", customer::two_browsers),
        stage.trial("a_browser_shows_hostile_names_as_text", customer::hostile),
        stage.trial("a_browser_that_sends_twice_places_one_order", customer::double_click),
        stage.trial("a_browser_orders_while_products_is_down", absence::products_down),
        stage.trial("a_browser_keeps_its_form_while_orders_is_down", absence::orders_down),
        stage.trial("a_browser_waits_for_an_order_while_orders_is_down", absence::page_comes_back),
        stage.trial("a_browser_goes_on_after_the_storefront_restarts", absence::restarted),
        stage.trial("a_browser_shows_what_caused_what", chain::causes),
        stage.trial("a_browser_shows_the_steps_of_a_saga", chain::orchestrated),
        stage.trial("a_browser_is_led_to_every_trace_of_an_order", chain::links),
        stage.trial("the_trace_of_an_order_begins_at_the_page_that_placed_it", chain::traced),
        stage.trial("a_browser_without_javascript_orders_too", reader::without_javascript),
        stage.trial("a_browser_orders_in_korean_by_keyboard", reader::korean_by_keyboard),
        stage.trial("a_browser_of_a_phone_reads_every_page", reader::readable),
        stage.trial("a_browser_that_wanders_is_not_kept_waiting", reader::wanderer),
        stage.trial("a_browser_in_the_dark_reads_every_page", reader::dark),
        stage.trial("a_browser_of_the_warehouse_sends_parcels_off", operator::warehouse),
        stage.trial("a_browser_turns_the_demonstration_switches", operator::switches),
        stage.trial("a_browser_of_an_operator_skips_what_nobody_can_read", operator::skips),
        stage.trial("a_browser_of_an_operator_retries_what_was_refused", operator::retries),
        stage.trial("a_browser_draws_the_main_pages", pictures::main_pages),
    ]
}
