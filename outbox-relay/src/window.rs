//! Reading the ring: a window is what is visible now and was not in the last acknowledged snapshot, in sequence order.
//! Its end T is frozen before its first row is read, so its rows are a fixed set and can be paged by sequence.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt};
use sqlx::{PgConnection, Row, postgres::PgRow};
use tokio::sync::{Notify, mpsc};

use crate::{
    Error,
    cursor::{Cursor, Snapshot, Within},
    error::postgres,
};

/// The whole of a small window, through the index on xid. `seq + 0` keeps the planner from walking the index on seq
/// through everything that is already acknowledged and still in the ring.
pub const SMALL_WINDOW: &str = "
    select seq, topic, key, headers, payload, created_at
    from (
        select seq, topic, key, headers, payload, created_at, xid
        from messaging.outbox
        where xid >= pg_snapshot_xmax($1::text::pg_snapshot)
        union all
        select seq, topic, key, headers, payload, created_at, xid
        from messaging.outbox
        where xid = any (array(select pg_snapshot_xip($1::text::pg_snapshot)))
    ) fresh
    where pg_visible_in_snapshot(xid, $2::text::pg_snapshot)
    order by seq + 0
    limit $3";

/// Where a large window begins: looked up once, so that its pages need not start at the oldest row of the ring.
pub const LARGE_WINDOW_START: &str = "
    select min(seq + 0)
    from (
        select seq, xid
        from messaging.outbox
        where xid >= pg_snapshot_xmax($1::text::pg_snapshot)
        union all
        select seq, xid
        from messaging.outbox
        where xid = any (array(select pg_snapshot_xip($1::text::pg_snapshot)))
    ) fresh
    where pg_visible_in_snapshot(xid, $2::text::pg_snapshot)";

/// A page of a large window: the four children merged by their indexes on seq, never sorted.
pub const LARGE_WINDOW_PAGE: &str = "
    select seq, topic, key, headers, payload, created_at
    from messaging.outbox
    where seq > $3
      and pg_visible_in_snapshot(xid, $2::text::pg_snapshot)
      and not pg_visible_in_snapshot(xid, $1::text::pg_snapshot)
    order by seq
    limit $4";

/// A chunk is handed on as soon as it has this many rows or bytes, so that memory is bounded whatever a page weighs.
const CHUNK_ROWS: usize = 512;
const CHUNK_BYTES: usize = 1 << 20;

/// How often an empty window is handed on, so that the cursor follows an outbox in which nothing happens.
const EMPTY_EVERY: Duration = Duration::from_secs(1);

/// Some of a window's rows, in order.
#[derive(Debug)]
pub struct Chunk {
    /// The window's frozen end.
    pub target: Snapshot,
    /// As [`crate::event::Event::read`] takes them.
    pub rows: Vec<PgRow>,
    /// Whether these are the last rows of the window.
    pub ends: bool,
    /// When they were read, by the database's clock.
    pub claimed_at: Option<DateTime<Utc>>,
}

/// What one step has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// There were rows: poll again at once.
    Rows,
    /// There were none: wait a little.
    Nothing,
    /// Nobody takes the chunks any more.
    Unwanted,
}

/// Reads window after window and hands the rows on. It runs ahead of the acknowledgements as far as the channel lets it.
#[derive(Debug)]
pub struct Reader {
    connection: PgConnection,
    acked: Snapshot,
    within: Option<Within>,
    page_rows: i64,
    chunks: mpsc::Sender<Chunk>,
    /// The sequence's value when the last window was opened: how far it has run since tells a small window from a large one.
    sequence: Option<i64>,
    clock: Option<(DateTime<Utc>, Instant)>,
    /// The last window's end that was handed on, and when the last empty one was.
    told: Option<Snapshot>,
    empty_told: Option<Instant>,
}

impl Reader {
    /// Continues where the cursor stands.
    pub fn new(
        connection: PgConnection,
        cursor: Cursor,
        page_rows: u16,
        chunks: mpsc::Sender<Chunk>,
    ) -> Self {
        let Cursor { acked, within } = cursor;
        let page_rows = i64::from(page_rows);
        Self {
            connection,
            acked,
            within,
            page_rows,
            chunks,
            sequence: None,
            clock: None,
            told: None,
            empty_told: None,
        }
    }

    /// Reads until nobody takes the rows: at once while there are any, else after 1, 2, 4 ... `idle` or when the bell rings.
    ///
    /// # Errors
    /// Postgres'.
    pub async fn run(mut self, doorbell: Arc<Notify>, idle: Duration) -> Result<(), Error> {
        let shortest = Duration::from_millis(1).min(idle);
        let mut pause = shortest;
        loop {
            match self.step().await? {
                Progress::Rows => pause = shortest,
                Progress::Unwanted => return Ok(()),
                Progress::Nothing => {
                    let rung = tokio::time::timeout(pause, doorbell.notified()).await.is_ok();
                    pause = if rung { shortest } else { idle.min(pause * 2) };
                }
            }
        }
    }

    /// Reads the next page of the open window, or opens the next one and reads its first page.
    ///
    /// # Errors
    /// Postgres'; what has been handed on stays valid.
    pub async fn step(&mut self) -> Result<Progress, Error> {
        match self.within.take() {
            Some(within) => self.page(within).await,
            None => self.open().await,
        }
    }

    async fn open(&mut self) -> Result<Progress, Error> {
        let (target, sequence, now) = sqlx::query_as::<_, (String, i64, DateTime<Utc>)>(
            "select pg_current_snapshot()::text,
                    last_value,
                    clock_timestamp()
             from messaging.outbox_seq",
        )
        .fetch_one(&mut self.connection)
        .await
        .map_err(postgres("taking a snapshot"))?;
        let target = Snapshot::from(target);
        self.clock = Some((now, Instant::now()));
        let ahead = self.sequence.replace(sequence).map(|before| sequence - before);
        if target == self.acked {
            return self.nothing(target).await;
        }
        match ahead {
            Some(ahead) if ahead <= self.page_rows => self.small(target).await,
            _ => self.large(target).await,
        }
    }

    async fn small(&mut self, target: Snapshot) -> Result<Progress, Error> {
        let rows = sqlx::query(SMALL_WINDOW)
            .bind(self.acked.as_str().to_owned())
            .bind(target.as_str().to_owned())
            .bind(self.page_rows);
        match self.forward(rows, &target).await? {
            Progress::Nothing => self.nothing(target).await,
            progress => Ok(progress),
        }
    }

    async fn large(&mut self, target: Snapshot) -> Result<Progress, Error> {
        let start = sqlx::query_scalar::<_, Option<i64>>(LARGE_WINDOW_START)
            .bind(self.acked.as_str())
            .bind(target.as_str())
            .fetch_one(&mut self.connection)
            .await
            .map_err(postgres("finding the window's start"))?;
        match start {
            Some(start) => self.page(Within { target, sent_seq: start - 1 }).await,
            None => self.nothing(target).await,
        }
    }

    async fn page(&mut self, within: Within) -> Result<Progress, Error> {
        let rows = sqlx::query(LARGE_WINDOW_PAGE)
            .bind(self.acked.as_str().to_owned())
            .bind(within.target.as_str().to_owned())
            .bind(within.sent_seq)
            .bind(self.page_rows);
        match self.forward(rows, &within.target).await? {
            Progress::Nothing => self.end(within.target).await,
            progress => Ok(progress),
        }
    }

    /// Hands the rows on while they arrive. A full page means that the window may have more.
    async fn forward(
        &mut self,
        query: sqlx::query::Query<'static, sqlx::Postgres, sqlx::postgres::PgArguments>,
        target: &Snapshot,
    ) -> Result<Progress, Error> {
        let clock = self.clock;
        let claimed_at = || clock.map(|(now, since)| now + since.elapsed());
        let chunk =
            |rows, ends| Chunk { target: target.clone(), rows, ends, claimed_at: claimed_at() };
        let mut answer = query
            .fetch(&mut self.connection)
            .map(|row| row.map_err(postgres("reading the outbox")));
        let (mut rows, mut bytes, mut count, mut last) = (Vec::new(), 0, 0, 0);
        while let Some(row) = answer.try_next().await? {
            let payload = row
                .try_get_raw(4)
                .ok()
                .and_then(|value| value.as_bytes().ok())
                .map_or(0, <[u8]>::len);
            last = row.try_get_unchecked(0).map_err(postgres("reading the outbox"))?;
            bytes += payload;
            count += 1;
            rows.push(row);
            if rows.len() >= CHUNK_ROWS || bytes >= CHUNK_BYTES {
                bytes = 0;
                if self.chunks.send(chunk(std::mem::take(&mut rows), false)).await.is_err() {
                    return Ok(Progress::Unwanted);
                }
            }
        }
        drop(answer);
        if count == 0 {
            return Ok(Progress::Nothing);
        }
        let ends = count < self.page_rows;
        if self.chunks.send(chunk(rows, ends)).await.is_err() {
            return Ok(Progress::Unwanted);
        }
        if ends {
            self.acked = target.clone();
            self.told = Some(target.clone());
        } else {
            self.within = Some(Within { target: target.clone(), sent_seq: last });
        }
        Ok(Progress::Rows)
    }

    /// A window without rows: told from time to time, so that the cursor follows and the ring can be emptied.
    async fn nothing(&mut self, target: Snapshot) -> Result<Progress, Error> {
        let recent = self.empty_told.is_some_and(|told| told.elapsed() < EMPTY_EVERY);
        if recent || self.told.as_ref() == Some(&target) {
            self.acked = target;
            return Ok(Progress::Nothing);
        }
        self.empty_told = Some(Instant::now());
        Ok(match self.end(target).await? {
            Progress::Unwanted => Progress::Unwanted,
            Progress::Rows | Progress::Nothing => Progress::Nothing,
        })
    }

    /// The open window has no more rows.
    async fn end(&mut self, target: Snapshot) -> Result<Progress, Error> {
        self.acked = target.clone();
        self.told = Some(target.clone());
        let chunk = Chunk { target, rows: Vec::new(), ends: true, claimed_at: None };
        Ok(if self.chunks.send(chunk).await.is_ok() { Progress::Rows } else { Progress::Unwanted })
    }
}
