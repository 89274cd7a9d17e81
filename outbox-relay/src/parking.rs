//! Keys that Kafka refuses an event of: that event and every later one of its key are set aside, in order, while all other
//! keys flow. This is what the shipping knows of them; the rows stand in `messaging.outbox_parked`.

use std::collections::{BTreeMap, HashMap, HashSet};

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::{
    Error, config::Source, error::postgres, event::Event, lease::Grant, marker::Redriven,
    shards::Shards, table::Table, verdict::Reason,
};

/// The parked keys of the shards that are shipped.
#[derive(Debug, Default)]
pub struct Parking {
    keys: HashSet<String>,
    /// Topics that refuse every event.
    topics: HashMap<String, Reason>,
    /// Rows that were refused just now.
    refused: HashMap<i64, Reason>,
    /// Rows that are set aside and not yet kept.
    aside: BTreeMap<i64, Reason>,
}

impl Parking {
    /// Reads what is parked. Only while no row is set aside that is not kept.
    ///
    /// # Errors
    /// Postgres'.
    pub async fn load(connection: &mut PgConnection, grant: &Grant) -> Result<Self, Error> {
        let parked = "from messaging.outbox_parked
             join messaging.outbox_cursor using (shard)
             where owner = $1";
        let keys = sqlx::query_scalar(AssertSqlSafe(format!("select distinct key {parked}")))
            .bind(grant.owner())
            .fetch_all(&mut *connection)
            .await
            .map_err(postgres("reading the parked keys"))?;
        let topics: Vec<(String, String)> = sqlx::query_as(AssertSqlSafe(format!(
            "select distinct topic, reason {parked} and reason in ('unknown_topic', 'unauthorised')"
        )))
        .bind(grant.owner())
        .fetch_all(connection)
        .await
        .map_err(postgres("reading the parked topics"))?;
        let reason = |label: &str| {
            let known = [Reason::UnknownTopic, Reason::Unauthorised];
            known.into_iter().find(|reason| reason.label() == label)
        };
        Ok(Self {
            keys: HashSet::from_iter::<Vec<String>>(keys),
            topics: topics
                .into_iter()
                .filter_map(|(topic, label)| Some((topic, reason(&label)?)))
                .collect(),
            ..Self::default()
        })
    }

    /// Why an event must not be sent, if it must not.
    pub fn holds(&self, event: &Event<'_>) -> Option<Reason> {
        if self.keys.is_empty() && self.topics.is_empty() {
            return None;
        }
        if let Some(reason) = self.refused.get(&event.seq) {
            return Some(*reason);
        }
        if self.keys.contains(event.key) {
            return Some(Reason::Behind);
        }
        self.topics.get(event.topic).copied()
    }

    /// From now on the key is held, beginning with the row that was refused; and with it the topic, if it refuses all.
    pub fn refuse(&mut self, seq: i64, topic: &str, key: &str, reason: Reason) {
        self.refused.insert(seq, reason);
        self.keys.insert(key.to_owned());
        if reason.is_the_topics() {
            self.topics.insert(topic.to_owned(), reason);
        }
    }

    /// The event is set aside.
    pub fn set_aside(&mut self, event: &Event<'_>, reason: Reason) {
        self.keys.insert(event.key.to_owned());
        self.aside.insert(event.seq, reason);
    }

    /// What was set aside since the cursor has to be read again.
    pub fn forget_aside(&mut self) {
        self.aside.clear();
    }

    /// Copies rows that were set aside to the parked ones: in the transaction that moves the cursor over them, or before
    /// it, `held` back until it does.
    ///
    /// # Errors
    /// Postgres'.
    pub async fn keep(
        &self,
        connection: &mut PgConnection,
        table: &Table,
        rows: &[i64],
        held: bool,
    ) -> Result<(), Error> {
        let reason = |seq: &i64| self.aside.get(seq).copied().unwrap_or(Reason::Behind).label();
        let kept = sqlx::query(AssertSqlSafe(table.park()))
            .bind(rows)
            .bind(rows.iter().map(reason).collect::<Vec<_>>())
            .bind(held)
            .execute(connection)
            .await
            .map_err(postgres("parking"))?;
        let gone = rows.len() as u64 - kept.rows_affected().min(rows.len() as u64);
        if gone > 0 {
            tracing::error!(
                rows = gone,
                table = table.name,
                "events that were to be parked have been deleted by somebody"
            );
        }
        Ok(())
    }

    /// Those rows are kept, and the cursor has passed them.
    pub fn kept(&mut self, rows: &[i64]) {
        for seq in rows {
            self.aside.remove(seq);
            self.refused.remove(seq);
        }
    }
}

/// Keeps rows before anything around them is sent, as exactly-once mode must: Kafka may know of the page when the cursor
/// does not.
///
/// # Errors
/// Postgres', or [`Error::LeaseLost`].
pub async fn keep_first(
    connection: &mut PgConnection,
    grant: &Grant,
    table: &Table,
    parking: &Parking,
    rows: &[i64],
) -> Result<(), Error> {
    let mut transaction = connection.begin().await.map_err(postgres("parking"))?;
    let alive = sqlx::query("select from messaging.outbox_relay where owner = $1 for share")
        .bind(grant.owner())
        .fetch_optional(&mut *transaction)
        .await
        .map_err(postgres("looking after the lease"))?;
    if alive.is_none() {
        return Err(Error::LeaseLost("it ended unrenewed"));
    }
    parking.keep(&mut transaction, table, rows, true).await?;
    transaction.commit().await.map_err(postgres("parking"))
}

/// Lets go of rows that were kept before the cursors of these shards had passed them, now that those have.
///
/// # Errors
/// Postgres'.
pub async fn unhold(
    connection: &mut PgConnection,
    grant: &Grant,
    shards: Shards,
    rows: &[i64],
) -> Result<(), Error> {
    sqlx::query(
        "update messaging.outbox_parked parked
         set held = false
         from messaging.outbox_cursor cursor
         where cursor.shard = parked.shard
           and cursor.owner = $1
           and ($2::bigint >> parked.shard) & 1 = 1
           and seq = any($3)
           and held",
    )
    .bind(grant.owner())
    .bind(shards.mask())
    .bind(rows)
    .execute(connection)
    .await
    .map_err(postgres("taking up parked rows"))?;
    Ok(())
}

/// Forgets parked rows that have arrived, among those of the lease's shards, unless a cursor was moved by hand since: then
/// they may have been parked anew. Returns how many there were.
///
/// # Errors
/// Postgres'.
pub async fn drop_sent(
    connection: &mut PgConnection,
    grant: &Grant,
    rows: &[Redriven],
) -> Result<u64, Error> {
    let deleted = sqlx::query(
        "delete from messaging.outbox_parked parked
         using messaging.outbox_cursor cursor,
               unnest($2::bigint[], $3::bigint[]) as gone (seq, moves)
         where cursor.shard = parked.shard
           and cursor.owner = $1
           and cursor.moves = gone.moves
           and parked.seq = gone.seq",
    )
    .bind(grant.owner())
    .bind(rows.iter().map(|row| row.seq).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.moves).collect::<Vec<_>>())
    .execute(connection)
    .await
    .map_err(postgres("deleting rows that have arrived"))?;
    Ok(deleted.rows_affected())
}

/// Once per key; that its later events wait behind is no news.
pub fn say(source: &Source, event: &Event<'_>, reason: Reason) {
    if reason != Reason::Behind {
        tracing::warn!(
            source = source.name,
            seq = event.seq,
            topic = event.topic,
            key = event.key,
            reason = reason.label(),
            "parked an event that Kafka refuses; its key waits, see `outbox-relay parked list`"
        );
    }
}
