//! The database that a source reads: how it is connected to, which cluster it is, and whether it can be shipped.

use sqlx::{ConnectOptions, Connection, Executor, PgConnection, Row};

use crate::{Error, database::Database, error::postgres};

/// Opens a connection with the settings that the relay's statements are measured and tested under.
///
/// # Errors
/// When Postgres is not there or refuses, or the password cannot be read.
pub async fn connect(database: &Database) -> Result<PgConnection, Error> {
    let options = database.options()?.application_name("outbox-relay").disable_statement_logging();
    let mut connection = options.connect().await.map_err(postgres("connecting"))?;
    // The planner overrates the read by xid arrays: compiling costs 16 ms a poll, parallel workers 6 ms, and generic
    // plans are four times slower. The children have no statistics, so anything but an
    // index in its order would be a guess. What is recorded of Kafka must outlive a crash. A relay that is stopped while it takes the lease shall not lock
    // out the others.
    connection
        .execute(
            "set jit = off;
             set max_parallel_workers_per_gather = 0;
             set plan_cache_mode = force_custom_plan;
             set enable_seqscan = off;
             set enable_bitmapscan = off;
             set work_mem = '64MB';
             set synchronous_commit = on;
             set default_transaction_isolation = 'read committed';
             set idle_in_transaction_session_timeout = '2s';
             set statement_timeout = '30s'",
        )
        .await
        .map_err(postgres("setting up the connection"))?;
    Ok(connection)
}

/// Lets a connection's statements take as long as they need: finding the start of a backlog of many millions, and handing
/// on a page while Kafka is slow, take longer than anything else here, and starting over would take as long again. The
/// keeper of the lease notices a database that is gone.
///
/// # Errors
/// When Postgres is not there.
pub async fn take_time(connection: &mut PgConnection) -> Result<(), Error> {
    connection
        .execute("set statement_timeout = 0")
        .await
        .map_err(postgres("setting up the connection"))?;
    Ok(())
}

/// Which cluster answered, by its own word.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// Given to a cluster when it is made; a restored dump has another.
    pub system_identifier: i64,
    /// Grows with every promotion of a standby.
    pub timeline: i32,
    /// The database's own number: a copy made within the cluster has another.
    pub database: i64,
    /// Whether a cursor of another cluster may be taken over.
    pub adopt: bool,
}

impl Cluster {
    /// Reads who the cluster is and refuses a database that cannot be shipped in order.
    ///
    /// # Errors
    /// [`Error::SequenceCached`], or Postgres' when it is a standby, lacks the tables, or the role lacks rights.
    pub async fn identify(connection: &mut PgConnection, adopt: bool) -> Result<Self, Error> {
        let row = sqlx::query(
            "select (select system_identifier from pg_control_system()),
                    ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::integer,
                    (select seqcache from pg_sequence where seqrelid = 'messaging.outbox_seq'::regclass),
                    (select oid::bigint from pg_database where datname = current_database())",
        )
        .fetch_one(connection)
        .await
        .map_err(postgres("identifying the cluster"))?;
        let read = || -> Result<_, sqlx::Error> {
            Ok((
                Self {
                    system_identifier: row.try_get(0)?,
                    timeline: row.try_get(1)?,
                    database: row.try_get(3)?,
                    adopt,
                },
                row.try_get::<i64, _>(2)?,
            ))
        };
        let (cluster, cache) = read().map_err(postgres("identifying the cluster"))?;
        if cache == 1 { Ok(cluster) } else { Err(Error::SequenceCached(cache)) }
    }

    /// Compares the cluster with the one that wrote the cursor. A new timeline is fine: the cursor lives in the
    /// database and went back with it. Another cluster is not: the cursor's transaction numbers mean nothing here.
    ///
    /// # Errors
    /// [`Error::AnotherCluster`] or [`Error::CursorAhead`] unless told to adopt it.
    pub(crate) async fn check(&self, connection: &mut PgConnection) -> Result<(), Error> {
        match Self::strangeness(connection, self.system_identifier).await? {
            None => self.tell_of_a_new_timeline(connection).await,
            Some(strange) if self.adopt => self.take_over(connection, &strange).await,
            Some(strange) => Err(strange),
        }
    }

    /// Why the cursor cannot have been written here, if it cannot. By its own word; or because it counts transactions that
    /// are yet to come: a move of the cursor is a later transaction than all that it counts, so wherever it is visible, on
    /// a standby that took over as well, those are past.
    ///
    /// # Errors
    /// Postgres'.
    pub(crate) async fn strangeness(
        connection: &mut PgConnection,
        system_identifier: i64,
    ) -> Result<Option<Error>, Error> {
        let (recorded, seen, reached) = sqlx::query_as::<_, (Option<i64>, Option<String>, String)>(
            "select (select max(system_identifier)
                     from messaging.outbox_cursor
                     where system_identifier <> $1),
                    (select seen::text
                     from messaging.outbox_cursor
                     cross join lateral greatest(pg_snapshot_xmax(acked), pg_snapshot_xmax(target)) seen
                     where seen > pg_snapshot_xmax(pg_current_snapshot())
                     order by seen desc
                     limit 1),
                    pg_snapshot_xmax(pg_current_snapshot())::text",
        )
        .bind(system_identifier)
        .fetch_one(connection)
        .await
        .map_err(postgres("reading the cursor's cluster"))?;
        let another = |recorded| Error::AnotherCluster { recorded, actual: system_identifier };
        let ahead = || seen.map(|seen| Error::CursorAhead { seen, reached });
        Ok(recorded.map(another).or_else(ahead))
    }

    async fn tell_of_a_new_timeline(&self, connection: &mut PgConnection) -> Result<(), Error> {
        let recorded = sqlx::query_scalar::<_, Option<i32>>(
            "select max(timeline)
             from messaging.outbox_cursor",
        )
        .fetch_one(connection)
        .await
        .map_err(postgres("reading the cursor's timeline"))?;
        if let Some(timeline) = recorded.filter(|recorded| *recorded != self.timeline) {
            tracing::warn!(
                from = timeline,
                to = self.timeline,
                "the cluster has a new timeline: a failover or a restore"
            );
        }
        Ok(())
    }

    async fn take_over(&self, connection: &mut PgConnection, strange: &Error) -> Result<(), Error> {
        tracing::warn!(reason = %strange, "adopting another cluster's cursor: the ring is sent again");
        let adopting = || postgres("adopting the cluster");
        let mut transaction = connection.begin().await.map_err(adopting())?;
        // The ring may be huge, and every row of it is written. Of several relays that are told to adopt, the first to
        // have these locks does; the others then look again.
        for statement in [
            "set local statement_timeout = 0",
            "select from messaging.outbox_cursor order by shard for update",
        ] {
            transaction.execute(statement).await.map_err(adopting())?;
        }
        if Self::strangeness(&mut transaction, self.system_identifier).await?.is_some() {
            sqlx::query(
                "update messaging.outbox_cursor
                 set system_identifier = $1,
                     timeline = $2",
            )
            .bind(self.system_identifier)
            .bind(self.timeline)
            .execute(&mut *transaction)
            .await
            .map_err(adopting())?;
            transaction.execute("select messaging.adopt_outbox()").await.map_err(adopting())?;
        }
        transaction.commit().await.map_err(adopting())
    }
}
