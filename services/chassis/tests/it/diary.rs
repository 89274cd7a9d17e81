//! A small service to test with: it writes down what it heard about each order, and echoes it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use chassis::{
    cause::{Cause, Coordination},
    clock,
    inbox::{Inbox, InboxError, Record, Report},
    parked::Parked,
    policy::{Book, Policy, Reaction, Refused, SaveError},
    telemetry::TraceContext,
    testing::{Database, Sender},
    trail::Outcome,
};
use sqlx::{PgConnection, PgPool, migrate::Migrator};
use uuid::Uuid;

use crate::letter::{Echo, Letter};

static NO_MIGRATIONS: Migrator = Migrator::DEFAULT;

/// The database does not take this text, whoever writes it.
pub(crate) const POISON: &str = "poison";
/// The policy refuses this text while [`Diary::refuse`] says so.
pub(crate) const REFUSED: &str = "refused";

pub(crate) struct Diary {
    pub(crate) db: Database,
    pub(crate) inbox: Arc<Inbox<Pages>>,
    pub(crate) sender: Sender,
    refusing: Arc<AtomicBool>,
}

impl Diary {
    pub(crate) async fn open() -> Self {
        Self::on_topic::<0>().await
    }

    /// Every letter is a command, which is answered.
    pub(crate) async fn commanded() -> Self {
        let diary = Self::open().await;
        let inbox = Arc::new(Inbox::new("diary").on(Obey(Arc::clone(&diary.refusing))));
        Self { inbox, ..diary }
    }

    /// Hears of orders alone that the orchestrator drives.
    pub(crate) async fn driven() -> Self {
        let diary = Self::open().await;
        let inbox = Inbox::new("diary").only(Coordination::Orchestration);
        let inbox = Arc::new(inbox.on(Write::<0>(Arc::clone(&diary.refusing))));
        Self { inbox, ..diary }
    }

    pub(crate) async fn on_topic<const T: usize>() -> Self {
        let db = Database::create(&NO_MIGRATIONS).await;
        sqlx::query(
            "create table pages (
                 order_id uuid   not null primary key,
                 heard    text[] not null,
                 version  bigint not null,
                 constraint pages_hold_no_poison check (not ('poison' = any(heard))))",
        )
        .execute(&db.pool)
        .await
        .unwrap();
        let refusing = Arc::new(AtomicBool::new(true));
        let write = Write::<T>(Arc::clone(&refusing));
        let inbox = Arc::new(Inbox::new("diary").on(write));
        Self { db, inbox, sender: Sender::new("writer"), refusing }
    }

    pub(crate) fn pool(&self) -> &PgPool {
        &self.db.pool
    }

    pub(crate) fn refuse(&self, refuse: bool) {
        self.refusing.store(refuse, Ordering::SeqCst);
    }

    pub(crate) fn letter(&mut self, order_id: Uuid, text: &str) -> Record {
        self.sender.event(order_id, &Letter::<0>::new(order_id, text))
    }

    /// A letter whose payload is none.
    pub(crate) fn torn(&mut self, order_id: Uuid) -> Record {
        Record { payload: Some(b"{torn".to_vec()), ..self.letter(order_id, "torn") }
    }

    /// Handles a batch on a connection of its own; a batch that is not decided in time fails the test.
    pub(crate) async fn hear(&self, records: &[Record]) -> Report {
        let mut conn = self.db.connection().await;
        in_time(self.inbox.handle(&mut conn, records)).await.unwrap()
    }

    pub(crate) async fn retry(&self, key: &str) -> (usize, Result<(), Refused>) {
        let mut conn = self.db.connection().await;
        in_time(self.inbox.retry_parked(&mut conn, key)).await.unwrap()
    }

    /// Gives up a message that is parked; false when it is not any more.
    pub(crate) async fn skip(&self, record: &Record) -> bool {
        let parked_id: Option<i64> = sqlx::query_scalar(
            "select parked_id from messaging.inbox_parked where key = $1 and \"offset\" = $2",
        )
        .bind(&record.key)
        .bind(record.offset)
        .fetch_optional(self.pool())
        .await
        .unwrap();
        let Some(parked_id) = parked_id else { return false };
        let (record, reason, now) = (record.clone(), String::new(), clock::now());
        let parked = Parked { parked_id, record, reason, parked_at: now };
        let (id, trace) = (Uuid::now_v7(), TraceContext::random());
        let verb = Cause::local("diary", "SkipParked", id, trace, now);
        let mut conn = self.db.connection().await;
        in_time(self.inbox.skip_parked(&mut conn, &parked, &verb)).await.unwrap()
    }

    /// What was heard about an order, in order.
    pub(crate) async fn heard(&self, order_id: Uuid) -> Vec<String> {
        let heard: Option<Vec<String>> =
            sqlx::query_scalar("select heard from pages where order_id = $1")
                .bind(order_id)
                .fetch_optional(self.pool())
                .await
                .unwrap();
        heard.unwrap_or_default()
    }

    /// The texts that were echoed about an order, in the order of the outbox.
    pub(crate) async fn echoed(&self, order_id: Uuid) -> Vec<String> {
        sqlx::query_scalar(
            "select convert_from(payload, 'UTF8')::jsonb ->> 'text'
             from messaging.outbox
             where key = $1
             order by seq",
        )
        .bind(order_id.to_string())
        .fetch_all(self.pool())
        .await
        .unwrap()
    }

    /// Offset and reason of what is parked under a key, in order.
    pub(crate) async fn parked(&self, key: &str) -> Vec<(i64, String)> {
        sqlx::query_as(
            "select \"offset\", reason from messaging.inbox_parked where key = $1 order by parked_id",
        )
        .bind(key)
        .fetch_all(self.pool())
        .await
        .unwrap()
    }

    /// Outcome and deliveries of the messages about an order, in the order in which they were sent.
    pub(crate) async fn trail(&self, order_id: Uuid) -> Vec<(String, i32)> {
        sqlx::query_as(
            "select outcome, deliveries
             from messaging.trail
             where correlation_id = $1
             order by \"offset\"",
        )
        .bind(order_id)
        .fetch_all(self.pool())
        .await
        .unwrap()
    }

    pub(crate) async fn count(&self, table: &'static str) -> i64 {
        sqlx::query_scalar(sqlx::AssertSqlSafe(format!("select count(*) from {table}")))
            .fetch_one(self.pool())
            .await
            .unwrap()
    }

    /// Waits until some transaction of this database waits for a lock.
    pub(crate) async fn somebody_waits(&self) {
        let waiting = "select exists (
                           select from pg_stat_activity
                           where datname = current_database() and wait_event_type = 'Lock')";
        in_time(async {
            while !sqlx::query_scalar::<_, bool>(waiting).fetch_one(self.pool()).await.unwrap() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

/// The future's answer, which must not take for ever.
pub(crate) async fn in_time<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("it takes for ever")
}

/// The handled batch as a result, for tests that expect a failure.
pub(crate) async fn handled(
    diary: &Diary,
    conn: &mut PgConnection,
    records: &[Record],
) -> Result<Report, InboxError> {
    in_time(diary.inbox.handle(conn, records)).await
}

/// Whenever a letter comes, write it down and echo it.
pub(crate) struct Write<const T: usize>(Arc<AtomicBool>);

impl<const T: usize> Policy<Pages> for Write<T> {
    type Event = Letter<T>;

    fn wants(&self, event: &Letter<T>, wants: &mut BTreeSet<Uuid>) -> Result<(), Refused> {
        wants.insert(order_id(event)?);
        Ok(())
    }

    fn react(
        &self,
        event: &Letter<T>,
        pages: &mut Pages,
        cause: &Cause,
    ) -> Result<Reaction, Refused> {
        match pages.write_down(event, &self.0)? {
            Outcome::Applied => Ok(Reaction::applied(vec![cause.emit(&echo(event)?)?])),
            outcome => Ok(Reaction::nothing(outcome)),
        }
    }
}

/// Whenever a letter comes, write it down, and answer it also when it is there already.
pub(crate) struct Obey(Arc<AtomicBool>);

impl Policy<Pages> for Obey {
    type Event = Letter<0>;

    const SKIPS_DUPLICATES: bool = false;

    fn wants(&self, event: &Letter<0>, wants: &mut BTreeSet<Uuid>) -> Result<(), Refused> {
        wants.insert(order_id(event)?);
        Ok(())
    }

    fn react(
        &self,
        event: &Letter<0>,
        pages: &mut Pages,
        cause: &Cause,
    ) -> Result<Reaction, Refused> {
        let outcome = pages.write_down(event, &self.0)?;
        Ok(Reaction::answered(outcome, vec![cause.answer(&echo(event)?)?]))
    }
}

fn echo<const T: usize>(event: &Letter<T>) -> Result<Echo, Refused> {
    Ok(Echo::new(order_id(event)?, &event.0.text))
}

fn order_id<const T: usize>(event: &Letter<T>) -> Result<Uuid, Refused> {
    Uuid::parse_str(&event.0.order_id).map_err(|error| Refused(error.to_string()))
}

#[derive(Default)]
struct Page {
    heard: Vec<String>,
    loaded: usize,
    version: i64,
}

/// The rows of a batch.
pub(crate) struct Pages(BTreeMap<Uuid, Page>);

impl Pages {
    fn write_down<const T: usize>(
        &mut self,
        event: &Letter<T>,
        refusing: &AtomicBool,
    ) -> Result<Outcome, Refused> {
        let text = &event.0.text;
        if text == REFUSED && refusing.load(Ordering::SeqCst) {
            return Err(Refused::because("the diary is closed"));
        }
        let page = self.0.entry(order_id(event)?).or_default();
        // By the row, as every policy: two consumers may both have found the letter unseen.
        if page.heard.contains(text) {
            return Ok(Outcome::Duplicate);
        }
        page.heard.push(text.clone());
        Ok(Outcome::Applied)
    }
}

impl Book for Pages {
    type Wants = BTreeSet<Uuid>;

    async fn load(conn: &mut PgConnection, wants: &Self::Wants) -> sqlx::Result<Self> {
        let rows: Vec<(Uuid, Vec<String>, i64)> = sqlx::query_as(
            "select order_id, heard, version
             from pages
             where order_id = any($1)
             order by order_id
             for update",
        )
        .bind(wants.iter().copied().collect::<Vec<_>>())
        .fetch_all(conn)
        .await?;
        let page = |(order_id, heard, version): (Uuid, Vec<String>, i64)| {
            (order_id, Page { loaded: heard.len(), heard, version })
        };
        Ok(Self(rows.into_iter().map(page).collect()))
    }

    async fn save(&self, conn: &mut PgConnection) -> Result<(), SaveError> {
        for (order_id, page) in &self.0 {
            if page.loaded == page.heard.len() {
                continue;
            }
            let statement = if page.version == 0 {
                "insert into pages (order_id, heard, version) values ($1, $2, $3 + 1) on conflict do nothing"
            } else {
                "update pages set heard = $2, version = $3 + 1 where order_id = $1 and version = $3"
            };
            let written = sqlx::query(statement)
                .bind(order_id)
                .bind(&page.heard)
                .bind(page.version)
                .execute(&mut *conn)
                .await?;
            SaveError::unless_all_written(1, &written)?;
        }
        Ok(())
    }
}
