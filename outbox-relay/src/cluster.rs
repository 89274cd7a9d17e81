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
    // index in its order would be a guess. A relay that is stopped while it takes the lease shall not lock out the others.
    connection
        .execute(
            "set jit = off;
             set max_parallel_workers_per_gather = 0;
             set plan_cache_mode = force_custom_plan;
             set enable_seqscan = off;
             set enable_bitmapscan = off;
             set work_mem = '64MB';
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
    /// database and went back with it. Another system identifier is not: its transaction numbers mean nothing here.
    ///
    /// # Errors
    /// [`Error::AnotherCluster`] unless told to adopt it.
    pub(crate) async fn check(&self, connection: &mut PgConnection) -> Result<(), Error> {
        let recorded = sqlx::query_as::<_, (Option<i64>, Option<i32>)>(
            "select max(system_identifier),
                    max(timeline)
             from messaging.outbox_cursor",
        )
        .fetch_one(&mut *connection)
        .await
        .map_err(postgres("reading the cursor's cluster"))?;
        match recorded {
            (Some(recorded), _) if recorded != self.system_identifier && !self.adopt => {
                Err(Error::AnotherCluster { recorded, actual: self.system_identifier })
            }
            (Some(recorded), _) if recorded != self.system_identifier => {
                self.take_over(connection, recorded).await
            }
            (_, Some(timeline)) if timeline != self.timeline => {
                tracing::warn!(
                    from = timeline,
                    to = self.timeline,
                    "the cluster has a new timeline: a failover or a restore"
                );
                Ok(())
            }
            _ => Ok(()),
        }
    }

    async fn take_over(&self, connection: &mut PgConnection, recorded: i64) -> Result<(), Error> {
        tracing::warn!(
            recorded,
            actual = self.system_identifier,
            "adopting another cluster: the ring is sent again"
        );
        let mut transaction = connection.begin().await.map_err(postgres("adopting the cluster"))?;
        // All at once, so that of several relays that are told to adopt only one finds something to do.
        let adopted = sqlx::query(
            "update messaging.outbox_cursor
             set system_identifier = $1,
                 timeline = $2
             where system_identifier = $3",
        )
        .bind(self.system_identifier)
        .bind(self.timeline)
        .bind(recorded)
        .execute(&mut *transaction)
        .await
        .map_err(postgres("adopting the cluster"))?;
        if adopted.rows_affected() > 0 {
            sqlx::query("select messaging.adopt_outbox()")
                .execute(&mut *transaction)
                .await
                .map_err(postgres("adopting the cluster"))?;
        }
        transaction.commit().await.map_err(postgres("adopting the cluster"))
    }
}
