//! A command is answered however often it comes: whoever repeats it has not got the answer.

use chassis::{
    envelope::{Envelope, Headers},
    inbox::Record,
    trail::Outcome,
};
use uuid::Uuid;

use crate::diary::{Diary, REFUSED};

fn id(command: &Record) -> Uuid {
    Envelope::parse(Headers(&command.headers)).unwrap().event_id
}

/// Id and causation of everything in the outbox, in order.
async fn answers(diary: &Diary) -> Vec<(Uuid, Option<Uuid>)> {
    let told = diary.db.outbox().await.into_iter();
    let told = told.map(|record| Envelope::parse(Headers(&record.headers)).unwrap());
    told.map(|envelope| (envelope.event_id, envelope.causation_id)).collect()
}

#[tokio::test]
async fn a_command_that_comes_again_is_answered_again_and_does_nothing_more() {
    let mut diary = Diary::commanded().await;
    let a = Uuid::now_v7();
    let command = diary.letter(a, "a1");
    let twice = diary.hear(&[command.clone(), command.clone()]).await;
    assert_eq!((twice.count(Outcome::Applied), twice.count(Outcome::Duplicate)), (1, 1));
    let again = diary.hear(std::slice::from_ref(&command)).await;
    assert_eq!((again.count(Outcome::Duplicate), again.emitted), (1, 1));

    assert_eq!(diary.heard(a).await, ["a1"]);
    let command_id = id(&command);
    let answer_id = Uuid::new_v5(&command_id, b"answer");
    assert_eq!(answers(&diary).await, [(answer_id, Some(command_id)); 3]);
}

#[tokio::test]
async fn the_trail_shows_a_repeated_command_and_its_answer_once() {
    let mut diary = Diary::commanded().await;
    let a = Uuid::now_v7();
    let command = diary.letter(a, "a1");
    diary.hear(&[command.clone(), command.clone()]).await;
    diary.hear(std::slice::from_ref(&command)).await;
    assert_eq!(diary.trail(a).await, [("applied".to_owned(), 3)]);
    let emitted: serde_json::Value = sqlx::query_scalar("select emitted from messaging.trail")
        .fetch_one(diary.pool())
        .await
        .unwrap();
    let answer_id = Uuid::new_v5(&id(&command), b"answer");
    assert_eq!(emitted.as_array().unwrap().len(), 1, "{emitted}");
    assert_eq!(emitted[0]["id"], answer_id.to_string());
}

#[tokio::test]
async fn a_repeated_command_waits_behind_the_parked_one_of_its_key() {
    let mut diary = Diary::commanded().await;
    let a = Uuid::now_v7();
    let (first, second) = (diary.letter(a, "a1"), diary.letter(a, REFUSED));
    diary.hear(&[first.clone(), second]).await;
    let again = Record { offset: 99, ..first };
    assert_eq!(diary.hear(&[again]).await.count(Outcome::Parked), 1);
    assert_eq!(diary.echoed(a).await, ["a1"]);

    diary.refuse(false);
    assert_eq!(diary.retry(&a.to_string()).await, (2, Ok(())));
    assert_eq!(diary.echoed(a).await, ["a1", REFUSED, "a1"]);
    assert_eq!(diary.heard(a).await, ["a1", REFUSED]);
}
