//! What cannot be handled parks under its key; later messages of the key wait behind it, all others flow on.

use chassis::{
    inbox::{Record, Report},
    trail::Outcome,
};
use uuid::Uuid;

use crate::{
    diary::{Diary, POISON, REFUSED},
    letter::Letter,
};

fn counts(report: &Report) -> (usize, usize, usize) {
    let count = |outcome| report.count(outcome);
    (count(Outcome::Applied), count(Outcome::Parked), count(Outcome::Duplicate))
}

#[tokio::test]
async fn an_undecodable_message_parks_with_the_later_ones_of_its_key_while_others_flow() {
    let mut diary = Diary::open().await;
    let (a, b) = (Uuid::now_v7(), Uuid::now_v7());
    let batch = [
        diary.letter(a, "a1"),
        diary.letter(b, "b1"),
        diary.torn(a),
        diary.letter(b, "b2"),
        diary.letter(a, "a3"),
    ];
    assert_eq!(counts(&diary.hear(&batch).await), (3, 2, 0));
    let later = [diary.letter(a, "a4"), diary.letter(b, "b3")];
    assert_eq!(counts(&diary.hear(&later).await), (1, 1, 0));

    assert_eq!(diary.heard(a).await, ["a1"]);
    assert_eq!(diary.heard(b).await, ["b1", "b2", "b3"]);
    assert_eq!(diary.echoed(a).await, ["a1"]);
    let parked = diary.parked(&a.to_string()).await;
    let offsets: Vec<_> = parked.iter().map(|(offset, _)| *offset).collect();
    assert_eq!(offsets, [batch[2].offset, batch[4].offset, later[0].offset]);
    assert!(parked[0].1.contains("the payload is not a test.chassis.Letter"), "{parked:?}");
    assert!(parked[1].1.contains("an earlier message"), "{parked:?}");
    let outcomes: Vec<_> = diary.trail(a).await.into_iter().map(|(outcome, _)| outcome).collect();
    assert_eq!(outcomes, ["applied", "parked", "parked", "parked"]);
}

#[tokio::test]
async fn a_message_that_the_policy_refuses_parks_alone_with_those_behind_it() {
    let mut diary = Diary::open().await;
    let (a, b) = (Uuid::now_v7(), Uuid::now_v7());
    let batch = [
        diary.letter(a, "a1"),
        diary.letter(b, "b1"),
        diary.letter(a, REFUSED),
        diary.letter(a, "a3"),
        diary.letter(b, "b2"),
    ];
    assert_eq!(counts(&diary.hear(&batch).await), (3, 2, 0));
    assert_eq!(diary.heard(a).await, ["a1"]);
    assert_eq!(diary.heard(b).await, ["b1", "b2"]);
    assert_eq!(diary.parked(&a.to_string()).await[0].1, "the diary is closed");
}

#[tokio::test]
async fn a_row_that_the_database_refuses_parks_just_its_message() {
    let mut diary = Diary::open().await;
    let orders: Vec<Uuid> = (0..5).map(|_| Uuid::now_v7()).collect();
    let mut batch: Vec<_> = orders.iter().map(|order| diary.letter(*order, "first")).collect();
    batch.push(diary.letter(orders[2], POISON));
    batch.extend(orders.iter().map(|order| diary.letter(*order, "last")));
    assert_eq!(counts(&diary.hear(&batch).await), (9, 2, 0));
    for order in [orders[0], orders[1], orders[3], orders[4]] {
        assert_eq!(diary.heard(order).await, ["first", "last"]);
    }
    assert_eq!(diary.heard(orders[2]).await, ["first"]);
    let parked = diary.parked(&orders[2].to_string()).await;
    assert_eq!(parked.len(), 2);
    assert!(parked[0].1.contains("pages_hold_no_poison"), "{parked:?}");
}

#[tokio::test]
async fn a_message_that_comes_again_while_it_is_parked_is_parked_once() {
    let mut diary = Diary::open().await;
    let a = Uuid::now_v7();
    let batch = [diary.torn(a), diary.letter(a, "a2")];
    for _ in 0..3 {
        assert_eq!(counts(&diary.hear(&batch).await), (0, 2, 0));
    }
    assert_eq!(diary.parked(&a.to_string()).await.len(), 2);
    assert_eq!(diary.trail(a).await, [("parked".to_owned(), 3), ("parked".to_owned(), 3)]);
}

/// Whoever repeats a message sends it anew: the same event at another offset.
#[tokio::test]
async fn a_refused_message_that_is_sent_again_is_parked_once_and_its_arrivals_are_counted() {
    let mut diary = Diary::commanded().await;
    let (a, b) = (Uuid::now_v7(), Uuid::now_v7());
    let (refused, torn, behind) = (diary.letter(a, REFUSED), diary.torn(b), diary.letter(a, "a2"));
    let again = |of: &Record, offset| Record { offset, ..of.clone() };
    let first = [refused.clone(), again(&refused, 50), behind.clone(), torn.clone()];
    assert_eq!(counts(&diary.hear(&first).await), (0, 4, 0));
    let second = [again(&refused, 51), again(&torn, 52), again(&behind, 53)];
    assert_eq!(counts(&diary.hear(&second).await), (0, 3, 0));

    let offsets = |parked: Vec<(i64, String)>| parked.into_iter().map(|it| it.0).collect();
    let parked: Vec<_> = offsets(diary.parked(&a.to_string()).await);
    assert_eq!(parked, [refused.offset, behind.offset]);
    let parked: Vec<_> = offsets(diary.parked(&b.to_string()).await);
    assert_eq!(parked, [torn.offset]);
    assert_eq!(diary.trail(a).await, [("parked".to_owned(), 3), ("parked".to_owned(), 2)]);
    assert_eq!(diary.trail(b).await, [("parked".to_owned(), 2)]);
}

#[tokio::test]
async fn messages_without_an_id_that_can_be_read_park_each_for_itself() {
    let mut diary = Diary::open().await;
    let a = Uuid::now_v7();
    let named = |letter: Record, id: Option<&[u8]>| {
        let mut headers = letter.headers.clone();
        headers.retain(|(name, _)| name != "ce_id");
        // The last of equal names counts.
        let first = Uuid::nil().to_string().into_bytes();
        headers.push(("ce_id".to_owned(), Some(first)));
        headers.push(("ce_id".to_owned(), id.map(<[u8]>::to_vec)));
        Record { headers, ..letter }
    };
    let ids = [None, Some(&b""[..]), Some(b"7"), Some(b"7"), Some(b"a\0b"), Some(b"\xff\xfe")];
    let batch: Vec<_> = ids.iter().map(|id| named(diary.letter(a, "a1"), *id)).collect();
    assert_eq!(counts(&diary.hear(&batch).await), (0, batch.len(), 0));
    assert_eq!(diary.parked(&a.to_string()).await.len(), batch.len());
}

#[tokio::test]
async fn an_unknown_type_is_skipped_even_under_a_parked_key() {
    let mut diary = Diary::open().await;
    let a = Uuid::now_v7();
    let mut unknown = diary.letter(a, "unknown");
    for (name, value) in &mut unknown.headers {
        if name == "ce_type" {
            *value = Some(b"shop.future.v1.Unheard".to_vec());
        }
    }
    let batch = [diary.torn(a), unknown.clone()];
    let report = diary.hear(&batch).await;
    assert_eq!((report.unknown, counts(&report)), (1, (0, 1, 0)));
    let report = diary.hear(&[unknown]).await;
    assert_eq!((report.unknown, counts(&report)), (1, (0, 0, 0)));
    assert_eq!(diary.count("messaging.trail").await, 1);
}

#[tokio::test]
async fn an_inbox_of_one_coordination_passes_over_the_messages_of_others_whatever_they_hold() {
    let mut diary = Diary::driven().await;
    let (a, b) = (Uuid::now_v7(), Uuid::now_v7());
    let driven = diary.sender.orchestrated(a, &Letter::<0>::new(a, "a1"));
    let (other, torn) = (diary.letter(b, "b1"), diary.torn(b));
    let mut silent = diary.letter(b, "b2");
    silent.headers.retain(|(name, _)| name != "ce_coordination");
    let report = diary.hear(&[other, driven, torn, silent]).await;
    assert_eq!((report.unknown, counts(&report)), (3, (1, 0, 0)));
    assert_eq!(diary.heard(a).await, ["a1"]);
    assert_eq!(diary.heard(b).await, [""; 0]);
    // Not even the trail knows them.
    assert_eq!(diary.count("messaging.trail").await, 1);
    assert_eq!(diary.count("messaging.inbox_parked").await, 0);
}

#[tokio::test]
async fn what_does_not_say_its_type_parks_since_it_may_concern_us() {
    let mut diary = Diary::open().await;
    let a = Uuid::now_v7();
    let mut nameless = diary.letter(a, "nameless");
    nameless.headers.clear();
    let mut keyless = nameless.clone();
    (keyless.key, keyless.offset) = (String::new(), 99);
    let batch = [nameless, keyless, diary.letter(a, "a2")];
    assert_eq!(counts(&diary.hear(&batch).await), (0, 3, 0));
    assert_eq!(diary.parked(&a.to_string()).await.len(), 2);
    assert_eq!(diary.parked("").await.len(), 1);
}

#[tokio::test]
async fn a_duplicate_changes_nothing_and_is_counted() {
    let mut diary = Diary::open().await;
    let a = Uuid::now_v7();
    let (first, second) = (diary.letter(a, "a1"), diary.letter(a, "a2"));
    let batch = [first.clone(), first.clone(), second.clone(), first.clone()];
    assert_eq!(counts(&diary.hear(&batch).await), (2, 0, 2));
    assert_eq!(counts(&diary.hear(&[second, first]).await), (0, 0, 2));
    assert_eq!(diary.heard(a).await, ["a1", "a2"]);
    assert_eq!(diary.echoed(a).await, ["a1", "a2"]);
    assert_eq!(diary.trail(a).await, [("applied".to_owned(), 4), ("applied".to_owned(), 2)]);
}
