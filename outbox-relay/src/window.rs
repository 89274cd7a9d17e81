//! Reading the outbox: a window is what is visible now and was not in the last acknowledged snapshot, in sequence order.
//! Its end T is frozen before its first row is read, so its rows are a fixed set and can be paged by sequence.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt};
use sqlx::{
    AssertSqlSafe, PgConnection, Postgres, Row, SqlSafeStr, SqlStr,
    postgres::{PgArguments, PgRow},
    query::Query,
};
use tokio::sync::{Notify, mpsc};

use crate::{
    Error,
    cursor::{Lane, Snapshot, Within},
    error::postgres,
    shards::Shards,
    table::Table,
};

/// A chunk is handed on as soon as it has this many rows or bytes, so that memory is bounded whatever a page weighs.
const CHUNK_ROWS: usize = 512;
const CHUNK_BYTES: usize = 1 << 20;

/// How often an empty window is handed on, so that the cursor follows an outbox in which nothing happens.
const EMPTY_EVERY: Duration = Duration::from_secs(1);

/// Some of a window's rows, in order.
#[derive(Debug)]
pub struct Chunk {
    /// Whose rows.
    pub shards: Shards,
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
/// Lanes that have come to the same position go on as one.
#[derive(Debug)]
pub struct Reader {
    connection: PgConnection,
    statements: Statements,
    lanes: Vec<ReadLane>,
    page_rows: i64,
    chunks: mpsc::Sender<Chunk>,
    clock: Option<(DateTime<Utc>, Instant)>,
}

#[derive(Debug)]
struct Statements {
    horizon: SqlStr,
    small: SqlStr,
    start: SqlStr,
    page: SqlStr,
}

#[derive(Debug)]
struct ReadLane {
    shards: Shards,
    acked: Snapshot,
    within: Option<Within>,
    /// The sequence's value when the last window was opened: how far it has run since tells a small window from a large one.
    sequence: Option<i64>,
    /// The last window's end that was handed on, and when the last empty one was.
    told: Option<Snapshot>,
    empty_told: Option<Instant>,
}

/// What is committed by now, the same for all lanes that open a window in one step.
#[derive(Debug, Clone)]
struct Horizon {
    target: Snapshot,
    sequence: i64,
}

impl Reader {
    /// Continues where the lanes stand.
    pub fn new(
        connection: PgConnection,
        table: &Table,
        lanes: &[Lane],
        page_rows: u16,
        chunks: mpsc::Sender<Chunk>,
    ) -> Self {
        let statement = |text: String| AssertSqlSafe(text).into_sql_str();
        Self {
            connection,
            statements: Statements {
                horizon: statement(table.horizon()),
                small: statement(table.small_window()),
                start: statement(table.large_window_start()),
                page: statement(table.large_window_page()),
            },
            lanes: lanes.iter().cloned().map(ReadLane::new).collect(),
            page_rows: i64::from(page_rows),
            chunks,
            clock: None,
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

    /// For every lane, reads the next page of its open window, or opens the next one and reads its first page.
    ///
    /// # Errors
    /// Postgres'; what has been handed on stays valid.
    pub async fn step(&mut self) -> Result<Progress, Error> {
        if self.merge().await? == Progress::Unwanted {
            return Ok(Progress::Unwanted);
        }
        let mut horizon = None;
        let mut progress = Progress::Nothing;
        for lane in 0..self.lanes.len() {
            let found = match self.lanes[lane].within.take() {
                Some(within) => self.page(lane, within).await?,
                None => {
                    if horizon.is_none() {
                        horizon = Some(self.look().await?);
                    }
                    match &horizon {
                        Some(horizon) => self.open(lane, horizon).await?,
                        None => Progress::Nothing,
                    }
                }
            };
            match found {
                Progress::Rows => progress = Progress::Rows,
                Progress::Nothing => {}
                Progress::Unwanted => return Ok(Progress::Unwanted),
            }
        }
        Ok(progress)
    }

    /// Makes one lane of those that have read to the same end. Whoever follows the chunks hears of that end first.
    async fn merge(&mut self) -> Result<Progress, Error> {
        let mut lane = 1;
        while lane < self.lanes.len() {
            let same = |other: &usize| {
                let (a, b) = (&self.lanes[*other], &self.lanes[lane]);
                a.within.is_none() && b.within.is_none() && a.acked == b.acked
            };
            let Some(other) = (0..lane).find(same) else {
                lane += 1;
                continue;
            };
            for lane in [other, lane] {
                let acked = self.lanes[lane].acked.clone();
                if self.lanes[lane].told.as_ref() != Some(&acked)
                    && self.end(lane, acked).await? == Progress::Unwanted
                {
                    return Ok(Progress::Unwanted);
                }
            }
            let merged = self.lanes.remove(lane);
            self.lanes[other].join(&merged);
        }
        Ok(Progress::Nothing)
    }

    async fn look(&mut self) -> Result<Horizon, Error> {
        let horizon = self.statements.horizon.clone();
        let (target, sequence, now) = sqlx::query_as::<_, (String, i64, DateTime<Utc>)>(horizon)
            .fetch_one(&mut self.connection)
            .await
            .map_err(postgres("taking a snapshot"))?;
        self.clock = Some((now, Instant::now()));
        Ok(Horizon { target: target.into(), sequence })
    }

    async fn open(&mut self, lane: usize, horizon: &Horizon) -> Result<Progress, Error> {
        let Horizon { target, sequence } = horizon.clone();
        let ahead = self.lanes[lane].sequence.replace(sequence).map(|before| sequence - before);
        if target == self.lanes[lane].acked {
            return self.nothing(lane, target).await;
        }
        match ahead {
            Some(ahead) if ahead <= self.page_rows => self.small(lane, target).await,
            _ => self.large(lane, target).await,
        }
    }

    async fn small(&mut self, lane: usize, target: Snapshot) -> Result<Progress, Error> {
        let rows = self.bind(&self.statements.small, lane, &target).bind(self.page_rows);
        match self.forward(lane, rows, &target).await? {
            Progress::Nothing => self.nothing(lane, target).await,
            progress => Ok(progress),
        }
    }

    async fn large(&mut self, lane: usize, target: Snapshot) -> Result<Progress, Error> {
        let start = self
            .bind(&self.statements.start, lane, &target)
            .fetch_one(&mut self.connection)
            .await
            .and_then(|row| row.try_get::<Option<i64>, _>(0))
            .map_err(postgres("finding the window's start"))?;
        match start {
            Some(start) => self.page(lane, Within { target, sent_seq: start - 1 }).await,
            None => self.nothing(lane, target).await,
        }
    }

    async fn page(&mut self, lane: usize, within: Within) -> Result<Progress, Error> {
        let rows = self
            .bind(&self.statements.page, lane, &within.target)
            .bind(self.page_rows)
            .bind(within.sent_seq);
        match self.forward(lane, rows, &within.target).await? {
            Progress::Nothing => self.end(lane, within.target).await,
            progress => Ok(progress),
        }
    }

    fn bind(
        &self,
        statement: &SqlStr,
        lane: usize,
        target: &Snapshot,
    ) -> Query<'static, Postgres, PgArguments> {
        let lane = &self.lanes[lane];
        sqlx::query(statement.clone())
            .bind(lane.acked.as_str().to_owned())
            .bind(target.as_str().to_owned())
            .bind(lane.shards.mask())
    }

    /// Hands the rows on while they arrive. A full page means that the window may have more.
    async fn forward(
        &mut self,
        lane: usize,
        query: Query<'static, Postgres, PgArguments>,
        target: &Snapshot,
    ) -> Result<Progress, Error> {
        let (clock, shards) = (self.clock, self.lanes[lane].shards);
        let claimed_at = || clock.map(|(now, since)| now + since.elapsed());
        let chunk = |rows, ends| Chunk {
            shards,
            target: target.clone(),
            rows,
            ends,
            claimed_at: claimed_at(),
        };
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
        let lane = &mut self.lanes[lane];
        if ends {
            lane.finish(target.clone());
        } else {
            lane.within = Some(Within { target: target.clone(), sent_seq: last });
        }
        Ok(Progress::Rows)
    }

    /// A window without rows: told from time to time, so that the cursor follows and the ring can be emptied.
    async fn nothing(&mut self, lane: usize, target: Snapshot) -> Result<Progress, Error> {
        let read = &mut self.lanes[lane];
        let recent = read.empty_told.is_some_and(|told| told.elapsed() < EMPTY_EVERY);
        if recent || read.told.as_ref() == Some(&target) {
            read.acked = target;
            return Ok(Progress::Nothing);
        }
        read.empty_told = Some(Instant::now());
        Ok(match self.end(lane, target).await? {
            Progress::Unwanted => Progress::Unwanted,
            Progress::Rows | Progress::Nothing => Progress::Nothing,
        })
    }

    /// The open window has no more rows.
    async fn end(&mut self, lane: usize, target: Snapshot) -> Result<Progress, Error> {
        let lane = &mut self.lanes[lane];
        lane.finish(target.clone());
        let shards = lane.shards;
        let chunk = Chunk { shards, target, rows: Vec::new(), ends: true, claimed_at: None };
        Ok(if self.chunks.send(chunk).await.is_ok() { Progress::Rows } else { Progress::Unwanted })
    }
}

impl ReadLane {
    fn new(lane: Lane) -> Self {
        Self {
            shards: lane.shards,
            acked: lane.cursor.acked,
            within: lane.cursor.within,
            sequence: None,
            told: None,
            empty_told: None,
        }
    }

    /// The window up to here is read and handed on.
    fn finish(&mut self, target: Snapshot) {
        self.acked = target.clone();
        self.told = Some(target);
    }

    fn join(&mut self, other: &Self) {
        self.shards = self.shards.and(other.shards);
        if self.sequence != other.sequence {
            self.sequence = None;
        }
    }
}
