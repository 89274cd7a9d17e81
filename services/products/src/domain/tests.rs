//! Given a row and a shelf, when a message comes, then: every pair is here.

use chrono::DateTime;
use proto::money::Money;

use super::*;

const NOW: DateTime<Utc> = DateTime::from_timestamp_nanos(1_700_000_000_000_000_000);
const OURS: Uuid = Uuid::from_u128(1);
const OTHER: Uuid = Uuid::from_u128(2);

pub(super) fn product(product_id: &str, stock: i64) -> (String, Product) {
    let product = Product {
        product_id: product_id.to_owned(),
        name: product_id.to_uppercase(),
        price: Money::new("KRW", 10_000, 0).unwrap(),
        stock,
        image_url: String::new(),
        options: Vec::new(),
        version: 1,
        created_at: NOW,
        updated_at: NOW,
    };
    (product_id.to_owned(), product)
}

pub(super) fn lines(lines: &[(&str, i32)]) -> Lines {
    Lines::new(lines.iter().map(|(product_id, quantity)| Line::new(*product_id, *quantity)))
        .unwrap()
}

fn short(product_id: &str, quantity: i32, available: i64) -> Shortage {
    Shortage { wanted: Line::new(product_id, quantity).unwrap(), available }
}

fn placed(wanted: &[(&str, i32)]) -> Message {
    Message::OrderPlaced { lines: lines(wanted), decision_event_id: OURS }
}

fn cancelled(own_rejection: Option<Uuid>) -> Message {
    Message::OrderCancelled { own_rejection }
}

fn rows() -> [Option<Reservation>; 5] {
    let lines = lines(&[("tv", 3)]);
    [
        None,
        Some(Reservation::Reserved { decision_event_id: OURS, lines: lines.clone() }),
        Some(Reservation::Released { decision_event_id: OURS, lines }),
        Some(Reservation::Rejected {
            decision_event_id: OURS,
            shortages: vec![short("tv", 11, 10)],
        }),
        Some(Reservation::Tombstone),
    ]
}

fn reserve(wanted: &[(&str, i32)]) -> Message {
    Message::ReserveStock { lines: lines(wanted), decision_event_id: OTHER }
}

fn messages() -> [(&'static str, Message); 8] {
    [
        ("OrderPlaced, it fits", placed(&[("tv", 3)])),
        ("OrderPlaced, too much", placed(&[("tv", 11)])),
        ("OrderCancelled", cancelled(None)),
        ("OrderCancelled after our rejection", cancelled(Some(OURS))),
        ("OrderCancelled after an unknown rejection", cancelled(Some(OTHER))),
        ("ReserveStock, it fits", reserve(&[("tv", 3)])),
        ("ReserveStock, too much", reserve(&[("tv", 11)])),
        ("ReleaseStock", Message::ReleaseStock),
    ]
}

fn name(event: &Event) -> &'static str {
    match event {
        Event::StockReserved { .. } => "StockReserved",
        Event::ProductOutOfStock { .. } => "ProductOutOfStock",
        Event::StockReleased { .. } => "StockReleased",
        Event::ProductChanged(_) => "ProductChanged",
    }
}

fn told(result: Result<Decision, Contradiction>) -> String {
    match result {
        Ok(Decision::Applied(row, events)) => {
            let names: Vec<_> = events.iter().map(name).collect();
            format!("{} [{}]", row.state(), names.join(", "))
        }
        Ok(Decision::Answered(outcome, answer)) => {
            format!("{} [{}]", outcome.as_str(), name(&answer))
        }
        Ok(Decision::Duplicate) => "duplicate".to_owned(),
        Ok(Decision::OwnOrigin) => "own origin".to_owned(),
        Ok(Decision::Raced) => "raced".to_owned(),
        Err(Contradiction::NeverRejected { .. }) => "quarantine".to_owned(),
        Err(other) => other.to_string(),
    }
}

fn table() -> String {
    let shelf = Shelf::from([product("tv", 10)]);
    let mut table = String::new();
    for row in rows() {
        for (name, message) in messages() {
            let state = row.as_ref().map_or("(none)", Reservation::state);
            let then = told(decide(row.as_ref(), &message, &shelf, NOW));
            table += &format!("{state:9} | {name:41} | {then}\n");
        }
    }
    table
}

const TABLE: &str = "\
(none)    | OrderPlaced, it fits                      | RESERVED [StockReserved, ProductChanged]
(none)    | OrderPlaced, too much                     | REJECTED [ProductOutOfStock]
(none)    | OrderCancelled                            | TOMBSTONE []
(none)    | OrderCancelled after our rejection        | quarantine
(none)    | OrderCancelled after an unknown rejection | quarantine
(none)    | ReserveStock, it fits                     | RESERVED [StockReserved, ProductChanged]
(none)    | ReserveStock, too much                    | REJECTED [ProductOutOfStock]
(none)    | ReleaseStock                              | TOMBSTONE [StockReleased]
RESERVED  | OrderPlaced, it fits                      | duplicate
RESERVED  | OrderPlaced, too much                     | duplicate
RESERVED  | OrderCancelled                            | RELEASED [ProductChanged]
RESERVED  | OrderCancelled after our rejection        | quarantine
RESERVED  | OrderCancelled after an unknown rejection | quarantine
RESERVED  | ReserveStock, it fits                     | duplicate [StockReserved]
RESERVED  | ReserveStock, too much                    | duplicate [StockReserved]
RESERVED  | ReleaseStock                              | RELEASED [StockReleased, ProductChanged]
RELEASED  | OrderPlaced, it fits                      | duplicate
RELEASED  | OrderPlaced, too much                     | duplicate
RELEASED  | OrderCancelled                            | duplicate
RELEASED  | OrderCancelled after our rejection        | quarantine
RELEASED  | OrderCancelled after an unknown rejection | quarantine
RELEASED  | ReserveStock, it fits                     | duplicate [StockReleased]
RELEASED  | ReserveStock, too much                    | duplicate [StockReleased]
RELEASED  | ReleaseStock                              | duplicate [StockReleased]
REJECTED  | OrderPlaced, it fits                      | duplicate
REJECTED  | OrderPlaced, too much                     | duplicate
REJECTED  | OrderCancelled                            | raced
REJECTED  | OrderCancelled after our rejection        | own origin
REJECTED  | OrderCancelled after an unknown rejection | quarantine
REJECTED  | ReserveStock, it fits                     | duplicate [ProductOutOfStock]
REJECTED  | ReserveStock, too much                    | duplicate [ProductOutOfStock]
REJECTED  | ReleaseStock                              | ignored [StockReleased]
TOMBSTONE | OrderPlaced, it fits                      | raced
TOMBSTONE | OrderPlaced, too much                     | raced
TOMBSTONE | OrderCancelled                            | duplicate
TOMBSTONE | OrderCancelled after our rejection        | quarantine
TOMBSTONE | OrderCancelled after an unknown rejection | quarantine
TOMBSTONE | ReserveStock, it fits                     | raced [StockReleased]
TOMBSTONE | ReserveStock, too much                    | raced [StockReleased]
TOMBSTONE | ReleaseStock                              | duplicate [StockReleased]
";

#[test]
#[expect(clippy::print_stdout, reason = "it prints the table for a person to read")]
fn the_whole_table_is_printed() {
    print!("{}", table());
}

#[test]
fn every_pair_of_state_and_message_is_decided_as_the_table_says() {
    assert_eq!(table(), TABLE);
}

#[test]
fn an_order_that_fits_takes_every_line_and_tells_of_each_product() {
    let shelf = Shelf::from([product("tv", 10), product("clock", 2)]);
    let decision = decide(None, &placed(&[("tv", 3), ("clock", 2)]), &shelf, NOW).unwrap();
    let Decision::Applied(Reservation::Reserved { lines, decision_event_id }, events) = decision
    else {
        panic!("{decision:?}")
    };
    assert_eq!(decision_event_id, OURS);
    let [
        Event::StockReserved { decision_event_id: OURS, lines: told },
        Event::ProductChanged(tv),
        Event::ProductChanged(clock),
    ] = events.as_slice()
    else {
        panic!("{events:?}")
    };
    assert_eq!(*told, lines);
    assert_eq!((tv.product_id.as_str(), tv.stock, tv.version), ("tv", 7, 2));
    assert_eq!((clock.product_id.as_str(), clock.stock, clock.version), ("clock", 0, 2));
}

#[test]
fn an_order_that_falls_short_in_one_line_takes_nothing_and_names_every_shortage() {
    let shelf = Shelf::from([product("tv", 10), product("clock", 2), product("mask", 0)]);
    let wanted = placed(&[("tv", 3), ("clock", 5), ("unheard-of", 1), ("mask", 1)]);
    let decision = decide(None, &wanted, &shelf, NOW).unwrap();
    let shortages = vec![short("clock", 5, 2), short("unheard-of", 1, 0), short("mask", 1, 0)];
    assert_eq!(
        decision,
        Decision::Applied(
            Reservation::Rejected { decision_event_id: OURS, shortages: shortages.clone() },
            vec![Event::ProductOutOfStock { decision_event_id: OURS, shortages }],
        )
    );
}

#[test]
fn a_release_puts_back_exactly_what_was_taken() {
    let shelf = Shelf::from([product("tv", 7), product("clock", 0)]);
    let taken = lines(&[("tv", 3), ("clock", 2)]);
    let row = Reservation::Reserved { decision_event_id: OURS, lines: taken.clone() };
    let decision = decide(Some(&row), &cancelled(None), &shelf, NOW).unwrap();
    let Decision::Applied(released, events) = decision else { panic!("{decision:?}") };
    assert_eq!(released, Reservation::Released { decision_event_id: OURS, lines: taken });
    let [Event::ProductChanged(tv), Event::ProductChanged(clock)] = events.as_slice() else {
        panic!("{events:?}")
    };
    assert_eq!((tv.stock, tv.version, clock.stock, clock.version), (10, 2, 2, 2));
}

#[test]
fn stock_does_not_come_back_to_a_product_that_is_gone_or_beyond_its_number() {
    let row = Reservation::Reserved { decision_event_id: OURS, lines: lines(&[("tv", 1)]) };
    let gone = decide(Some(&row), &cancelled(None), &Shelf::new(), NOW);
    assert_eq!(gone, Err(Contradiction::ProductGone("tv".to_owned())));
    let full = Shelf::from([product("tv", i64::MAX)]);
    let too_large = decide(Some(&row), &cancelled(None), &full, NOW).unwrap_err();
    assert_eq!(too_large, StockError::TooLarge { product_id: "tv".to_owned() }.into());
}

#[test]
fn a_reservation_takes_the_last_piece_and_not_one_more() {
    let shelf = Shelf::from([product("tv", 3)]);
    let fits = decide(None, &placed(&[("tv", 3)]), &shelf, NOW);
    assert_eq!(told(fits), "RESERVED [StockReserved, ProductChanged]");
    let short = decide(None, &placed(&[("tv", 4)]), &shelf, NOW);
    assert_eq!(told(short), "REJECTED [ProductOutOfStock]");
}

#[test]
fn a_command_that_comes_again_is_answered_with_what_was_decided_under_its_own_id() {
    let shelf = Shelf::from([product("tv", 10)]);
    let short = vec![short("tv", 11, 4)];
    let again = [
        (
            Reservation::Reserved { decision_event_id: OURS, lines: lines(&[("tv", 3)]) },
            Event::StockReserved { decision_event_id: OTHER, lines: lines(&[("tv", 3)]) },
        ),
        (
            Reservation::Rejected { decision_event_id: OURS, shortages: short.clone() },
            Event::ProductOutOfStock { decision_event_id: OTHER, shortages: short },
        ),
    ];
    for (row, answer) in again {
        let decision = decide(Some(&row), &reserve(&[("tv", 9)]), &shelf, NOW).unwrap();
        assert_eq!(decision, Decision::Answered(Outcome::Duplicate, answer));
    }
}

#[test]
fn a_release_by_command_tells_first_what_was_taken_and_then_of_each_product() {
    let shelf = Shelf::from([product("tv", 7)]);
    let taken = lines(&[("tv", 3)]);
    let row = Reservation::Reserved { decision_event_id: OURS, lines: taken.clone() };
    let decision = decide(Some(&row), &Message::ReleaseStock, &shelf, NOW).unwrap();
    let Decision::Applied(released, events) = decision else { panic!("{decision:?}") };
    assert_eq!(released, Reservation::Released { decision_event_id: OURS, lines: taken.clone() });
    let [Event::StockReleased { lines }, Event::ProductChanged(tv)] = events.as_slice() else {
        panic!("{events:?}")
    };
    assert_eq!((lines.as_ref(), tv.stock, tv.version), (Some(&taken), 10, 2));
}
