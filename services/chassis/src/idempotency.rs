//! Idempotent calls: a request_id is claimed in the transaction of the call's effect, together with a hash of the request,
//! so that a retry finds what the first attempt did, or that it did nothing.

use std::collections::{HashMap, HashSet};

use prost::Message;
use sha2::{Digest as _, Sha256};
use sqlx::PgConnection;

/// A request_id to be claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Who calls: the token's subject, or the customer; empty when nobody is named.
    pub caller: String,
    /// The caller's id of the request.
    pub request_id: String,
    /// The method, such as PlaceOrder.
    pub method: &'static str,
    /// A hash over method and content.
    pub fingerprint: Vec<u8>,
    /// What the request makes or changes; a repeat is answered with it.
    pub resource_id: String,
}

/// What became of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// The first of its kind: go ahead.
    Fresh,
    /// It was done before; answer this resource as it is now.
    Repeat(String),
    /// The id was used for another request: REQUEST_ID_REUSED.
    Reused,
}

impl Claim {
    /// A claim, or none for an empty request_id. `content` is the request without its request_id.
    pub fn new(
        caller: &str,
        request_id: &str,
        method: &'static str,
        content: &impl Message,
        resource_id: impl Into<String>,
    ) -> Option<Self> {
        let fingerprint = Sha256::new()
            .chain_update(method)
            .chain_update([0])
            .chain_update(content.encode_to_vec())
            .finalize();
        (!request_id.is_empty()).then(|| Self {
            caller: caller.to_owned(),
            request_id: request_id.to_owned(),
            method,
            fingerprint: fingerprint.to_vec(),
            resource_id: resource_id.into(),
        })
    }

    fn key(&self) -> (&str, &str) {
        (&self.caller, &self.request_id)
    }
}

/// Claims one request_id. Waits for a transaction that is claiming the same one.
pub async fn claim(conn: &mut PgConnection, claim: Option<&Claim>) -> sqlx::Result<Claimed> {
    let Some(claim) = claim else { return Ok(Claimed::Fresh) };
    let claimed = claim_all(conn, std::slice::from_ref(claim)).await?;
    Ok(claimed.into_iter().next().unwrap_or(Claimed::Fresh))
}

/// Claims many at once, answering in their order; sorted in the statement, so that two groups cannot wait for each other
/// in a circle. Of two equal ones in a group, the first is fresh.
pub async fn claim_all(conn: &mut PgConnection, claims: &[Claim]) -> sqlx::Result<Vec<Claimed>> {
    let mut distinct: Vec<&Claim> = claims.iter().collect();
    distinct.sort_by_key(|claim| claim.key());
    distinct.dedup_by_key(|claim| claim.key());
    let mut fresh = insert(conn, &distinct).await?;
    let kept = if fresh.len() == claims.len() {
        HashMap::new()
    } else {
        existing(conn, &distinct).await?
    };

    let answer = |claim: &Claim| {
        let key = (claim.caller.clone(), claim.request_id.clone());
        if fresh.remove(&key) {
            return Claimed::Fresh;
        }
        match kept.get(&key) {
            Some((fingerprint, resource_id)) if *fingerprint == claim.fingerprint => {
                Claimed::Repeat(resource_id.clone())
            }
            _ => Claimed::Reused,
        }
    };
    Ok(claims.iter().map(answer).collect())
}

type Key = (String, String);

async fn insert(conn: &mut PgConnection, claims: &[&Claim]) -> sqlx::Result<HashSet<Key>> {
    let inserted: Vec<Key> = sqlx::query_as(
        "insert into messaging.requests (caller, request_id, method, fingerprint, resource_id)
         select caller, request_id, method, fingerprint, resource_id
         from unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::text[])
             with ordinality as claim (caller, request_id, method, fingerprint, resource_id, position)
         order by position
         on conflict on constraint requests_pkey do nothing
         returning caller, request_id",
    )
    .bind(claims.iter().map(|claim| claim.caller.as_str()).collect::<Vec<_>>())
    .bind(claims.iter().map(|claim| claim.request_id.as_str()).collect::<Vec<_>>())
    .bind(claims.iter().map(|claim| claim.method).collect::<Vec<_>>())
    .bind(claims.iter().map(|claim| claim.fingerprint.as_slice()).collect::<Vec<_>>())
    .bind(claims.iter().map(|claim| claim.resource_id.as_str()).collect::<Vec<_>>())
    .fetch_all(conn)
    .await?;
    Ok(inserted.into_iter().collect())
}

async fn existing(
    conn: &mut PgConnection,
    claims: &[&Claim],
) -> sqlx::Result<HashMap<Key, (Vec<u8>, String)>> {
    let rows: Vec<(String, String, Vec<u8>, String)> = sqlx::query_as(
        "select caller, request_id, fingerprint, resource_id
         from messaging.requests
         join unnest($1::text[], $2::text[]) as claim (caller, request_id) using (caller, request_id)",
    )
    .bind(claims.iter().map(|claim| claim.caller.as_str()).collect::<Vec<_>>())
    .bind(claims.iter().map(|claim| claim.request_id.as_str()).collect::<Vec<_>>())
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|(caller, id, fingerprint, resource)| ((caller, id), (fingerprint, resource)))
        .collect())
}

/// What became of a request_id so far, without claiming it: none when it is new, or nobody gave one.
pub async fn look_up(
    conn: &mut PgConnection,
    claim: Option<&Claim>,
) -> sqlx::Result<Option<Claimed>> {
    let Some(claim) = claim else { return Ok(None) };
    let kept = existing(conn, &[claim]).await?.into_values().next();
    Ok(kept.map(|(fingerprint, resource_id)| {
        if fingerprint == claim.fingerprint {
            Claimed::Repeat(resource_id)
        } else {
            Claimed::Reused
        }
    }))
}

/// Gives claims of this transaction back, since their requests were refused.
pub async fn release(conn: &mut PgConnection, claims: &[&Claim]) -> sqlx::Result<()> {
    if claims.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "delete from messaging.requests
         using unnest($1::text[], $2::text[], $3::text[]) as claim (caller, request_id, resource_id)
         where requests.caller = claim.caller
           and requests.request_id = claim.request_id
           and requests.resource_id = claim.resource_id",
    )
    .bind(claims.iter().map(|claim| claim.caller.as_str()).collect::<Vec<_>>())
    .bind(claims.iter().map(|claim| claim.request_id.as_str()).collect::<Vec<_>>())
    .bind(claims.iter().map(|claim| claim.resource_id.as_str()).collect::<Vec<_>>())
    .execute(conn)
    .await?;
    Ok(())
}
