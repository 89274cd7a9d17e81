//! Three relays of one database, one of them killed every few seconds under load.

use std::time::Duration;

use nix::sys::signal::Signal;
use sqlx::{Executor, PgConnection};

use crate::{
    database::Database,
    kafka,
    relay::{Process, Relay},
    writers::Writers,
};

#[tokio::test(flavor = "multi_thread")]
async fn three_relays_one_killed_every_few_seconds_lose_and_invert_nothing_and_take_over_in_time() {
    // The terms as they are by default: what they promise is what is measured.
    let terms = ["--lease", "2s", "--delivery-timeout", "1s", "--renew-every", "500ms"];
    let kills = if crate::setting("RELAY_FULL").is_some() { 20 } else { 5 };
    let (database, topic) = (Database::fresh().await, kafka::topic().await);
    let start = || Process::start(&database, &kafka::bootstrap(), &terms);
    let mut clock = Clock::start(&database).await;
    let mut relays = vec![start(), start(), start()];
    let writers = Writers::start(&database, &topic, 8, 60).await;
    let mut takeovers = Vec::new();
    for _ in 0..kills {
        database.is_shared(&[22, 21, 21]).await;
        database.progress(100).await;
        tokio::time::sleep(Duration::from_millis(rand::random_range(0..1500))).await;
        let before = database.owners().await;
        let victim = relays.remove(0);
        clock.set().await;
        victim.signal(Signal::SIGKILL);
        victim.ended().await;
        crate::eventually("the others have all shards", async || {
            database.shares().await.iter().sum::<i64>() == 64
                && database.owners().await.len() == 2
                && database.owners().await.iter().all(|owner| before.contains(owner))
        })
        .await;
        takeovers.push(clock.read().await);
        relays.push(start());
    }
    let versions = writers.end().await;
    database.drained().await;
    assert_eq!(database.parked().await, 0, "nothing is wrong with the events");
    for relay in relays {
        relay.signal(Signal::SIGTERM);
        assert_eq!(relay.ended().await, Some(0));
    }
    let verdict = kafka::judge(&kafka::read(&kafka::bootstrap(), &topic).await, &versions);
    assert_eq!((verdict.lost, verdict.inverted), (0, 0), "{verdict:?}");
    assert!(takeovers.iter().all(|took| took.taken < 3.0), "{takeovers:#?}");
}

/// Seconds after the kill.
#[derive(Debug, sqlx::FromRow)]
struct Takeover {
    /// Until the lease was ended: the rest of it, and somebody's look.
    #[expect(dead_code, reason = "shown where it took too long")]
    ended: f64,
    /// Until the last shard was taken: what the others had on their way had to arrive as well.
    taken: f64,
}

/// Measures takeovers by the database's own clock: what a test needs to see that one is over is no part of it.
struct Clock {
    connection: PgConnection,
    set: String,
}

impl Clock {
    async fn start(database: &Database) -> Self {
        let mut connection = database.connect().await;
        connection
            .execute(
                "create table steps (at timestamptz not null, step text not null);
                 grant insert on steps to outbox_relay;
                 create function note() returns trigger language plpgsql as $$
                 begin
                     insert into steps values (clock_timestamp(), tg_argv[0]);
                     return new;
                 end $$;
                 create trigger taking
                 after update of owner on messaging.outbox_cursor
                 for each row
                 when (new.owner <> coalesce(old.owner, ''))
                 execute function note('taken');
                 create trigger ending
                 after delete on messaging.outbox_relay
                 for each row execute function note('ended')",
            )
            .await
            .unwrap();
        Self { connection, set: String::new() }
    }

    async fn set(&mut self) {
        self.set = sqlx::query_scalar("select clock_timestamp()::text")
            .fetch_one(&mut self.connection)
            .await
            .unwrap();
    }

    async fn read(&mut self) -> Takeover {
        sqlx::query_as(
            "select extract(epoch from max(at) filter (where step = 'ended') - $1::timestamptz)::float8 as ended,
                    extract(epoch from max(at) filter (where step = 'taken') - $1::timestamptz)::float8 as taken
             from steps",
        )
        .bind(&self.set)
        .fetch_one(&mut self.connection)
        .await
        .unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hot_key_keeps_its_order_while_relays_come_and_go() {
    let (database, topic) = (Database::fresh().await, kafka::topic().await);
    let often = ["--renew-every", "50ms"];
    let first = Relay::start(&database, &kafka::bootstrap(), &often).await;
    let writers = Writers::start(&database, &topic, 6, 1).await;
    for _ in 0..4 {
        let second = Relay::start(&database, &kafka::bootstrap(), &often).await;
        database.is_shared(&[32, 32]).await;
        database.progress(20).await;
        second.stop().await.unwrap();
        database.is_shared(&[64]).await;
    }
    let versions = writers.end().await;
    database.drained().await;
    first.stop().await.unwrap();
    let messages = kafka::read(&kafka::bootstrap(), &topic).await;
    assert_eq!(kafka::judge(&messages, &versions), kafka::Verdict::default());
}
