//! Messages that Postgres itself cannot keep, or that are made to mislead: each parks or is handled, and none stops the others.

use chassis::{envelope::Envelope, envelope::Headers, inbox::Record};
use uuid::Uuid;

use crate::diary::Diary;

fn set(record: &mut Record, name: &str, value: &[u8]) {
    record.headers.retain(|(header, _)| header != name);
    record.headers.push((name.to_owned(), Some(value.to_vec())));
}

type Spoil = fn(&mut Record);

const HOSTILE: [(&str, Spoil); 10] = [
    ("a NUL in the source", |it| set(it, "ce_source", b"a\0b")),
    ("a NUL in the trace id", |it| {
        set(it, "traceparent", b"00-0123456789abcdef\x000123456789abcde-0123456789abcdef-01");
    }),
    ("a NUL in the type", |it| set(it, "ce_type", b"test.chassis.Letter\0")),
    ("bytes that are no text in a header", |it| set(it, "ce_source", &[0xff, 0xfe])),
    ("a NUL in the text", |it| {
        let payload = String::from_utf8(it.payload.take().unwrap()).unwrap();
        it.payload = Some(payload.replace("hostile", "a\\u0000b").into_bytes());
    }),
    ("a NUL in a name that the decoder repeats", |it| {
        it.payload = Some(br#"{"order_id": {"a\u0000b": 1}, "a\u0000b": 1}"#.to_vec());
    }),
    ("a time before all times", |it| set(it, "ce_time", b"0000-01-01T00:00:00Z")),
    ("a time after all times", |it| set(it, "ce_time", b"9999-12-31T23:59:60.999999999Z")),
    ("a path that is too long", |it| {
        let path = vec![format!("a/b/{}", Uuid::now_v7()); 17].join(",");
        set(it, "ce_causalpath", path.as_bytes());
    }),
    ("a megabyte of text", |it| {
        let payload = String::from_utf8(it.payload.take().unwrap()).unwrap();
        it.payload = Some(payload.replace("hostile", &"x".repeat(1_000_000)).into_bytes());
    }),
];

#[tokio::test]
async fn a_hostile_message_parks_or_passes_and_stops_nobody() {
    for (what, spoil) in HOSTILE {
        let mut diary = Diary::open().await;
        let (a, b) = (Uuid::now_v7(), Uuid::now_v7());
        let mut hostile = diary.letter(a, "hostile");
        spoil(&mut hostile);
        let batch = [diary.letter(b, "b1"), hostile, diary.letter(b, "b2")];
        let report = diary.hear(&batch).await;
        let ended: usize = report.outcomes.values().sum::<usize>() + report.unknown;
        assert_eq!(ended, 3, "{what}: {report:?}");
        assert_eq!(diary.heard(b).await, ["b1", "b2"], "{what}");
        // Once more, as after a rebalance.
        diary.hear(&batch).await;
        assert_eq!(diary.heard(b).await, ["b1", "b2"], "{what}");
    }
}

#[tokio::test]
async fn what_follows_from_an_event_of_a_strange_source_can_be_read() {
    let mut diary = Diary::open().await;
    let a = Uuid::now_v7();
    let mut letter = diary.letter(a, "a1");
    set(&mut letter, "ce_source", "https://shop.example/a,b/c".as_bytes());
    diary.hear(&[letter]).await;
    let echo = diary.db.outbox().await.pop().expect("it was echoed");
    Envelope::parse(Headers(&echo.headers)).unwrap();
}
