//! Taking up what came before in exactly-once mode. Whoever shipped a shard last is fenced, and its last note says how far
//! it really came: between Kafka's commit and the move of the cursor there is always a moment to die in.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sqlx::{Connection, PgConnection};

use crate::{
    Config, Error,
    cluster::Cluster,
    cursor::{self, Cursor, Followers, Lane, Within},
    error::postgres,
    exactly_once::redrive_id,
    lease::Grant,
    marker::{self, Marker},
    parking, position,
    producer::Producer,
    shards::Shards,
};

/// A shard, what its cursor says, how often that was moved by hand, and who shipped it last.
struct Held {
    shard: Shards,
    cursor: Cursor,
    moves: i64,
    fence: Option<String>,
}

/// Fences everybody who has shipped the shards of this lease before, this relay included, and moves the cursors to where
/// those really stood. Returns the producer to go on with.
///
/// # Errors
/// Kafka's and Postgres'; doing it again is safe.
pub async fn resume(
    config: &Config,
    cluster: &Cluster,
    connection: &mut PgConnection,
    grant: &Grant,
) -> Result<Producer, Error> {
    marker::make_topic(config).await?;
    cursor::spread(connection, grant.owner()).await?;
    let held = load(connection, grant).await?;
    let fences: BTreeSet<&str> = held.iter().filter_map(|held| held.fence.as_deref()).collect();
    let producer = Producer::transactional(config, grant.owner())?;
    let taken = async {
        producer.fence(config.transaction_timeout).await?;
        for id in ids(&fences).filter(|id| id != grant.owner()) {
            fence(config, &id).await?;
        }
        let notes = match fences.is_empty() {
            true => HashMap::new(),
            false => marker::read(config, ids(&fences).collect()).await?,
        };
        take_up(cluster, connection, grant, &held, &notes).await?;
        let foreign = fences.into_iter().filter(|fence| *fence != grant.owner());
        let done = unasked(connection, foreign.map(str::to_owned).collect()).await?;
        forget(config, &producer, &done).await
    };
    match taken.await {
        Ok(()) => Ok(producer),
        Err(error) => {
            producer.close().await;
            Err(error)
        }
    }
}

/// The transactional ids of these leases.
fn ids<'a>(leases: &'a BTreeSet<&str>) -> impl Iterator<Item = String> + 'a {
    leases.iter().flat_map(|lease| [(*lease).to_owned(), redrive_id(lease)])
}

async fn fence(config: &Config, id: &str) -> Result<(), Error> {
    let zombie = Producer::transactional(config, id)?;
    let fenced = zombie.fence(config.transaction_timeout).await;
    zombie.close().await;
    fenced
}

async fn load(connection: &mut PgConnection, grant: &Grant) -> Result<Vec<Held>, Error> {
    type Row = (i64, String, Option<String>, Option<i64>, i64, Option<String>);
    let rows = sqlx::query_as::<_, Row>(
        "select 1::bigint << shard, acked::text, target::text, sent_seq, moves, fence
         from messaging.outbox_cursor
         where owner = $1",
    )
    .bind(grant.owner())
    .fetch_all(connection)
    .await
    .map_err(postgres("reading the cursor"))?;
    let held = |(shard, acked, target, sent_seq, moves, fence): Row| Held {
        shard: Shards::from_mask(shard),
        cursor: Cursor {
            acked: acked.into(),
            within: target
                .zip(sent_seq)
                .map(|(target, sent_seq)| Within { target: target.into(), sent_seq }),
        },
        moves,
        fence,
    };
    Ok(rows.into_iter().map(held).collect())
}

/// Brings Postgres to where the notes say that Kafka is: the cursors, and the parked rows on the way there, which were kept
/// before and are to be held no more; and from now on this lease is the one to be fenced.
async fn take_up(
    cluster: &Cluster,
    connection: &mut PgConnection,
    grant: &Grant,
    held: &[Held],
    notes: &HashMap<String, Marker>,
) -> Result<(), Error> {
    let mut transaction = connection.begin().await.map_err(postgres("taking up the notes"))?;
    let mut noted: BTreeMap<&str, Shards> = BTreeMap::new();
    for held in held {
        let Some(fence) = held.fence.as_deref() else { continue };
        let Some(note) = notes.get(fence) else { continue };
        let Some(cursor) = note.position(cluster, held.shard, held.moves) else { continue };
        let shards = noted.entry(fence).or_insert(Shards::NONE);
        *shards = shards.and(held.shard);
        if position::is_beyond(&cursor, &held.cursor) {
            let lane = Lane { shards: held.shard, cursor };
            lane.record(&mut transaction, grant, Followers::New).await?;
        }
    }
    for (fence, shards) in noted {
        let parked = notes.get(fence).map(Marker::parked).unwrap_or_default();
        parking::unhold(&mut transaction, grant, shards, parked).await?;
    }
    for note in notes.values() {
        parking::drop_sent(&mut transaction, grant, note.gone(cluster)).await?;
    }
    sqlx::query("update messaging.outbox_cursor set fence = owner where owner = $1")
        .bind(grant.owner())
        .execute(&mut *transaction)
        .await
        .map_err(postgres("taking up the notes"))?;
    transaction.commit().await.map_err(postgres("taking up the notes"))
}

/// Those of the leases that no shard names any more: nobody will ask for their notes.
async fn unasked(connection: &mut PgConnection, leases: Vec<String>) -> Result<Vec<String>, Error> {
    sqlx::query_scalar(
        "select lease
         from unnest($1::text[]) as lease
         where lease not in (select fence from messaging.outbox_cursor where fence is not null)",
    )
    .bind(leases)
    .fetch_all(connection)
    .await
    .map_err(postgres("looking for notes that are done with"))
}

/// Takes back the last notes of leases that have ended and left nothing open, so that their topic does not grow with every
/// lease.
///
/// # Errors
/// Kafka's; then they stay, which costs some bytes.
pub async fn forget(config: &Config, producer: &Producer, leases: &[String]) -> Result<(), Error> {
    if leases.is_empty() {
        return Ok(());
    }
    producer.begin()?;
    for lease in leases {
        for id in [lease.clone(), redrive_id(lease)] {
            producer.note(&config.markers_topic, &id, None)?;
        }
    }
    let forgotten = producer.commit(config.transaction_timeout).await;
    // Nobody else may find the reports of the notes.
    let _ = producer.collect();
    forgotten
}
