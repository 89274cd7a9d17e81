//! The catalogue as orders last heard of it: a replica fed by ProductChanged, never going back to an older version.

use chrono::{DateTime, Utc};
use proto::money::Money;
use sqlx::{PgConnection, Row as _, postgres::PgRow, types::Json};

/// A product as orders knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Product {
    /// Its id.
    pub product_id: String,
    /// Its name.
    pub name: String,
    /// The price of one piece.
    pub price: Money,
    /// Pieces in stock.
    pub stock: i64,
    /// The version it was taken from.
    pub version: i64,
    /// When orders heard of it.
    pub updated_at: DateTime<Utc>,
}

impl Product {
    /// Whether it takes the place of what is known, as the statement of [`upsert`] has it too.
    pub fn supersedes(&self, known: &Self) -> bool {
        known.version < self.version
    }
}

/// The known ones of these products.
pub async fn find(conn: &mut PgConnection, product_ids: &[&str]) -> sqlx::Result<Vec<Product>> {
    let rows = sqlx::query("select * from product_replicas where product_id = any($1)")
        .bind(product_ids)
        .fetch_all(conn)
        .await?;
    rows.iter().map(read).collect()
}

/// A page of the replica by product_id, after `after`.
pub async fn page(conn: &mut PgConnection, after: &str, limit: i64) -> sqlx::Result<Vec<Product>> {
    let rows = sqlx::query(
        "select * from product_replicas where product_id > $1 order by product_id limit $2",
    )
    .bind(after)
    .bind(limit)
    .fetch_all(conn)
    .await?;
    rows.iter().map(read).collect()
}

/// Takes over what is newer than what is known. Each product once, by product_id, so that two batches cannot wait for each
/// other in a circle.
pub async fn upsert(conn: &mut PgConnection, products: &[Product]) -> sqlx::Result<()> {
    if products.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into product_replicas as known (product_id, name, price, stock, version, updated_at)
         select *
         from unnest($1::text[], $2::text[], $3::jsonb[], $4::bigint[], $5::bigint[], $6::timestamptz[])
             as heard (product_id, name, price, stock, version, updated_at)
         order by product_id
         on conflict (product_id) do update
         set name = excluded.name,
             price = excluded.price,
             stock = excluded.stock,
             version = excluded.version,
             updated_at = excluded.updated_at
         where known.version < excluded.version",
    )
    .bind(products.iter().map(|product| product.product_id.as_str()).collect::<Vec<_>>())
    .bind(products.iter().map(|product| product.name.as_str()).collect::<Vec<_>>())
    .bind(products.iter().map(|product| Json(&product.price)).collect::<Vec<_>>())
    .bind(products.iter().map(|product| product.stock).collect::<Vec<_>>())
    .bind(products.iter().map(|product| product.version).collect::<Vec<_>>())
    .bind(products.iter().map(|product| product.updated_at).collect::<Vec<_>>())
    .execute(conn)
    .await?;
    Ok(())
}

fn read(row: &PgRow) -> sqlx::Result<Product> {
    let Json(price) = row.try_get("price")?;
    Ok(Product {
        product_id: row.try_get("product_id")?,
        name: row.try_get("name")?,
        price,
        stock: row.try_get("stock")?,
        version: row.try_get("version")?,
        updated_at: row.try_get("updated_at")?,
    })
}
