//! Which table the events are read from, and what its columns are called: ours, unless a source says otherwise.

use crate::mapping::Mapping;

/// SQL expressions over one row of the table. They come from the configuration, never from a caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// The table, with the name that the expressions call its rows by.
    pub name: String,
    /// `bigint`, unique, in the order of commits within a key.
    pub seq: String,
    /// `bigint`, how far `seq` has run; not of a row.
    pub sequence: String,
    /// `xid8`, the transaction that wrote the row.
    pub xid: String,
    /// `smallint`, 0 to 63, by the key alone.
    pub shard: String,
    /// `uuid`.
    pub event_id: String,
    /// `text`.
    pub topic: String,
    /// `text`.
    pub key: String,
    /// `json` or `jsonb`, an object.
    pub headers: String,
    /// `bytea`, `text`, `json` or `jsonb`.
    pub payload: String,
    /// `bytea`, the same bytes.
    pub payload_bytes: String,
    /// `timestamptz`.
    pub created_at: String,
    /// What all this was made of, if the table is not ours.
    pub mapping: Option<Mapping>,
}

/// The table of `migrations/messaging`.
impl Default for Table {
    fn default() -> Self {
        let of = |text: &str| text.to_owned();
        Self {
            name: of("messaging.outbox"),
            seq: of("seq"),
            sequence: of("(select last_value from messaging.outbox_seq)"),
            xid: of("xid"),
            shard: of("shard"),
            event_id: of("event_id"),
            topic: of("topic"),
            key: of("key"),
            headers: of("headers"),
            payload: of("payload"),
            payload_bytes: of("payload"),
            created_at: of("created_at"),
            mapping: None,
        }
    }
}

impl Table {
    /// What is committed by now: a snapshot, how far the sequence has run, and the time.
    pub fn horizon(&self) -> String {
        format!("select pg_current_snapshot()::text, {}, clock_timestamp()", self.sequence)
    }

    /// Rows that a cursor has not passed, as a subquery: those above the snapshot, and those that were open in it. `$1` is
    /// the cursor's snapshot, and `columns` are what the caller wants of each row.
    fn fresh(&self, columns: &str) -> String {
        let Self { name, xid, .. } = self;
        format!(
            "select {columns}
             from {name}
             where {xid} >= pg_snapshot_xmax($1::text::pg_snapshot)
             union all
             select {columns}
             from {name}
             where {xid} = any (array(select pg_snapshot_xip($1::text::pg_snapshot)))"
        )
    }

    /// What an event is made of, in the order in which [`crate::event::Event::read`] takes it.
    fn event(&self) -> String {
        let Self { seq, topic, key, headers, payload, created_at, .. } = self;
        format!(
            "{seq} as seq, {topic} as topic, {key} as key, {headers} as headers, {payload} as payload, {created_at} as created_at"
        )
    }

    /// The whole of a small window, through the index on xid: `$1` the cursor, `$2` the window's end, `$3` the shards, `$4`
    /// how many rows. `seq + 0` keeps the planner from walking the index on seq through everything that is already
    /// acknowledged and still there.
    pub fn small_window(&self) -> String {
        let Self { xid, shard, .. } = self;
        let fresh = self.fresh(&format!("{}, {xid} as xid, {shard} as shard", self.event()));
        format!(
            "select seq, topic, key, headers, payload, created_at
             from ({fresh}) fresh
             where pg_visible_in_snapshot(xid, $2::text::pg_snapshot)
               and ($3::bigint >> shard) & 1 = 1
             order by seq + 0
             limit $4"
        )
    }

    /// Where a large window begins: looked up once, so that its pages need not start at the oldest row that is there. `$1`
    /// the cursor, `$2` the window's end, `$3` the shards.
    pub fn large_window_start(&self) -> String {
        let Self { seq, xid, shard, .. } = self;
        let fresh = self.fresh(&format!("{seq} as seq, {xid} as xid, {shard} as shard"));
        format!(
            "select min(seq + 0)
             from ({fresh}) fresh
             where pg_visible_in_snapshot(xid, $2::text::pg_snapshot)
               and ($3::bigint >> shard) & 1 = 1"
        )
    }

    /// A page of a large window: merged by the indexes on seq, never sorted. `$1` the cursor, `$2` the window's end, `$3` the
    /// shards, `$4` how many rows, `$5` the row before the page.
    pub fn large_window_page(&self) -> String {
        let Self { name, seq, xid, shard, .. } = self;
        let event = self.event();
        format!(
            "select {event}
             from {name}
             where {seq} > $5
               and pg_visible_in_snapshot({xid}, $2::text::pg_snapshot)
               and not pg_visible_in_snapshot({xid}, $1::text::pg_snapshot)
               and ($3::bigint >> {shard}) & 1 = 1
             order by {seq}
             limit $4"
        )
    }

    /// Copies rows to the parked ones: `$1` their numbers, `$2` the reasons, `$3` whether the cursor has yet to pass them.
    pub fn park(&self) -> String {
        let Self {
            name, seq, shard, event_id, topic, key, headers, payload_bytes, created_at, ..
        } = self;
        format!(
            "insert into messaging.outbox_parked
                 (seq, shard, event_id, topic, key, headers, payload, created_at, reason, held)
             select {seq}, {shard}, {event_id}, {topic}, {key}, {headers}, {payload_bytes}, {created_at}, parked.reason, $3
             from unnest($1::bigint[], $2::text[]) as parked (number, reason)
             join {name} on {seq} = parked.number
             on conflict (seq) do update set held = excluded.held"
        )
    }

    /// Deletes some rows that every shard's cursor has passed, whatever was open, and returns their transactions: `$1` below
    /// which transaction there are none left, `$2` how many.
    pub fn delete_acknowledged(&self) -> String {
        let Self { name, seq, xid, .. } = self;
        format!(
            "with acknowledged as (
                 select {seq} as seq
                 from {name}
                 where {xid} >= $1::text::xid8
                   and {xid} < (
                       select pg_snapshot_xmin(acked)
                       from messaging.outbox_standing
                       order by pg_snapshot_xmin(acked)
                       limit 1)
                 order by {xid}
                 limit $2
             )
             delete from {name}
             using acknowledged
             where {seq} = acknowledged.seq
             returning {xid}::text"
        )
    }

    /// How many rows no cursor has passed, and the age of the oldest in seconds; counted up to `$1`.
    pub fn backlog(&self) -> String {
        format!(
            "select count(*),
                    coalesce(extract(epoch from clock_timestamp() - min(created_at)), 0)::float8
             from (
                 select unsent.created_at
                 {unsent}
                 limit $1
             ) counted",
            unsent = self.unsent()
        )
    }

    /// The same for each shard that has such rows, with the set of shards that stand at its position; counted up to `$1` for
    /// each position.
    pub fn backlog_by_shard(&self) -> String {
        format!(
            "select cursor.shards,
                    unsent.shard,
                    count(*),
                    extract(epoch from clock_timestamp() - min(unsent.created_at))::float8
             {unsent}
             group by cursor.shards, unsent.shard",
            unsent = self.unsent()
        )
    }

    /// The rows that no cursor has passed, `$1` of each position at most.
    fn unsent(&self) -> String {
        let Self { name, seq, xid, shard, created_at, .. } = self;
        let columns =
            format!("{seq} as seq, {xid} as xid, {shard} as shard, {created_at} as created_at");
        format!(
            "from (
                 select acked::text::pg_snapshot as acked,
                        target::text::pg_snapshot as target,
                        sent_seq,
                        bit_or(1::bigint << shard) as shards
                 from messaging.outbox_standing
                 group by acked::text, target::text, sent_seq
             ) cursor
             cross join lateral (
                 select fresh.shard, fresh.created_at
                 from (
                     select {columns}
                     from {name}
                     where {xid} >= pg_snapshot_xmax(cursor.acked)
                     union all
                     select {columns}
                     from {name}
                     where {xid} = any (array(select pg_snapshot_xip(cursor.acked)))
                 ) fresh
                 where (cursor.shards >> fresh.shard) & 1 = 1
                   and (cursor.target is null
                        or fresh.seq > cursor.sent_seq
                        or not pg_visible_in_snapshot(fresh.xid, cursor.target))
                 limit $1
             ) unsent"
        )
    }

    /// How many rows from `$1` on the cursors of the shards `$2` have passed: what a replay sends again. Counted up to `$3`.
    pub fn sent_since(&self) -> String {
        let Self { name, seq, xid, shard, .. } = self;
        format!(
            "select count(*)
             from (
                 select
                 from (select {seq} as seq, {xid} as xid, {shard} as shard from {name} where {seq} >= $1) event
                 join messaging.outbox_standing cursor using (shard)
                 where ($2::bigint >> shard) & 1 = 1
                   and (pg_visible_in_snapshot(event.xid, cursor.acked)
                        or (cursor.target is not null
                            and event.seq <= cursor.sent_seq
                            and pg_visible_in_snapshot(event.xid, cursor.target)))
                 limit $3
             ) sent"
        )
    }

    /// The oldest and the newest row that is there, if there is any.
    pub fn ends(&self) -> String {
        let Self { name, seq, .. } = self;
        format!("select min({seq}), max({seq}) from {name}")
    }

    /// The first row that was written at `$1` or later.
    pub fn first_since(&self) -> String {
        let Self { name, seq, created_at, .. } = self;
        format!("select {seq} from {name} where {created_at} >= $1 order by {seq} limit 1")
    }
}
