//! The tables. Rows are locked in the order of their keys; what is written says which version it replaces, and fewer
//! rows than expected is a conflict.

use std::collections::BTreeMap;

use chassis::policy::SaveError;
use proto::money::Money;
use sqlx::{PgConnection, Row as _, postgres::PgRow, types::Json};
use uuid::Uuid;

use crate::{
    book::Row,
    domain::{Reservation, Shelf},
    lines::Lines,
    product::{Product, ProductOption},
};

/// Locks and reads the reservations there are of these orders.
pub async fn lock_reservations(
    conn: &mut PgConnection,
    orders: &[Uuid],
) -> sqlx::Result<BTreeMap<Uuid, Row>> {
    if orders.is_empty() {
        return Ok(BTreeMap::new());
    }
    let rows = sqlx::query(
        "select order_id, state, lines, shortages, decision_event_id, version
         from reservations
         where order_id = any($1)
         order by order_id
         for update",
    )
    .bind(orders)
    .fetch_all(conn)
    .await?;
    rows.iter().map(|row| Ok((row.try_get("order_id")?, reservation(row)?))).collect()
}

/// Reads the reservations there are of these orders.
pub async fn reservations(
    conn: &mut PgConnection,
    orders: &[Uuid],
) -> sqlx::Result<BTreeMap<Uuid, Row>> {
    let rows = sqlx::query(
        "select order_id, state, lines, shortages, decision_event_id, version
         from reservations
         where order_id = any($1)",
    )
    .bind(orders)
    .fetch_all(conn)
    .await?;
    rows.iter().map(|row| Ok((row.try_get("order_id")?, reservation(row)?))).collect()
}

/// Locks and reads the products there are of these.
pub async fn lock_products(conn: &mut PgConnection, products: &[&str]) -> sqlx::Result<Shelf> {
    if products.is_empty() {
        return Ok(Shelf::new());
    }
    let rows = sqlx::query(
        "select *
         from products
         where product_id = any($1)
         order by product_id
         for update",
    )
    .bind(products)
    .fetch_all(conn)
    .await?;
    shelf(&rows)
}

/// Reads the products there are of these.
pub async fn products(conn: &mut PgConnection, products: &[&str]) -> sqlx::Result<Shelf> {
    let rows = sqlx::query(
        "select *
         from products
         where product_id = any($1)",
    )
    .bind(products)
    .fetch_all(conn)
    .await?;
    shelf(&rows)
}

/// Reads the first products after this one, by id.
pub async fn products_after(
    conn: &mut PgConnection,
    after: &str,
    limit: i64,
) -> sqlx::Result<Vec<Product>> {
    let rows = sqlx::query(
        "select *
         from products
         where product_id > $1
         order by product_id
         limit $2",
    )
    .bind(after)
    .bind(limit)
    .fetch_all(conn)
    .await?;
    rows.iter().map(product).collect()
}

/// Writes a new product; false when there is one of this id.
pub async fn insert_product(conn: &mut PgConnection, product: &Product) -> sqlx::Result<bool> {
    let inserted = sqlx::query(
        "insert into products
             (product_id, name, price_currency, price_units, price_nanos, stock, image_url, options, version,
              created_at, updated_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
         on conflict on constraint products_pkey do nothing",
    )
    .bind(&product.product_id)
    .bind(&product.name)
    .bind(product.price.currency())
    .bind(product.price.units())
    .bind(product.price.nanos())
    .bind(product.stock)
    .bind(&product.image_url)
    .bind(Json(&product.options))
    .bind(product.version)
    .bind(product.created_at)
    .bind(product.updated_at)
    .execute(conn)
    .await?;
    Ok(inserted.rows_affected() == 1)
}

/// Writes changed products, each over the version it was loaded with.
pub async fn update_products(
    conn: &mut PgConnection,
    changed: &[(&Product, i64)],
) -> Result<(), SaveError> {
    if changed.is_empty() {
        return Ok(());
    }
    let products = || changed.iter().map(|(product, _)| *product);
    let result = sqlx::query(
        "update products
         set name = new.name, price_currency = new.price_currency, price_units = new.price_units,
             price_nanos = new.price_nanos, stock = new.stock, image_url = new.image_url,
             options = new.options::jsonb, version = new.version, updated_at = new.updated_at
         from unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::bigint[], $6::integer[], $7::bigint[],
                     $8::text[], $9::text[], $10::bigint[], $11::timestamptz[])
             as new (product_id, loaded, name, price_currency, price_units, price_nanos, stock, image_url, options,
                     version, updated_at)
         where products.product_id = new.product_id
           and products.version = new.loaded",
    )
    .bind(products().map(|product| product.product_id.as_str()).collect::<Vec<_>>())
    .bind(changed.iter().map(|(_, loaded)| *loaded).collect::<Vec<_>>())
    .bind(products().map(|product| product.name.as_str()).collect::<Vec<_>>())
    .bind(products().map(|product| product.price.currency()).collect::<Vec<_>>())
    .bind(products().map(|product| product.price.units()).collect::<Vec<_>>())
    .bind(products().map(|product| product.price.nanos()).collect::<Vec<_>>())
    .bind(products().map(|product| product.stock).collect::<Vec<_>>())
    .bind(products().map(|product| product.image_url.as_str()).collect::<Vec<_>>())
    .bind(products().map(|product| json(&product.options)).collect::<Result<Vec<_>, _>>()?)
    .bind(products().map(|product| product.version).collect::<Vec<_>>())
    .bind(products().map(|product| product.updated_at).collect::<Vec<_>>())
    .execute(conn)
    .await?;
    SaveError::unless_all_written(changed.len(), &result)
}

/// Writes the first row of each of these orders.
pub async fn insert_reservations(
    conn: &mut PgConnection,
    new: &[(Uuid, &Row)],
) -> Result<(), SaveError> {
    if new.is_empty() {
        return Ok(());
    }
    let reservations = || new.iter().map(|(_, row)| &row.reservation);
    let result = sqlx::query(
        "insert into reservations (order_id, state, lines, shortages, decision_event_id, version)
         select order_id, state, lines::jsonb, shortages::jsonb, decision_event_id, version
         from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::uuid[], $6::bigint[])
             as new (order_id, state, lines, shortages, decision_event_id, version)
         order by order_id
         on conflict on constraint reservations_pkey do nothing",
    )
    .bind(new.iter().map(|(order_id, _)| *order_id).collect::<Vec<_>>())
    .bind(reservations().map(Reservation::state).collect::<Vec<_>>())
    .bind(reservations().map(taken).collect::<Result<Vec<_>, _>>()?)
    .bind(reservations().map(|it| json(&it.shortages())).collect::<Result<Vec<_>, _>>()?)
    .bind(reservations().map(Reservation::decision_event_id).collect::<Vec<_>>())
    .bind(new.iter().map(|(_, row)| row.version).collect::<Vec<_>>())
    .execute(conn)
    .await?;
    SaveError::unless_all_written(new.len(), &result)
}

/// Moves rows on, each from the version it was loaded with. What was taken and decided never changes.
pub async fn update_reservations(
    conn: &mut PgConnection,
    moved: &[(Uuid, &Row, i64)],
) -> Result<(), SaveError> {
    if moved.is_empty() {
        return Ok(());
    }
    let result = sqlx::query(
        "update reservations
         set state = new.state, version = new.version, updated_at = now()
         from unnest($1::uuid[], $2::bigint[], $3::text[], $4::bigint[]) as new (order_id, loaded, state, version)
         where reservations.order_id = new.order_id
           and reservations.version = new.loaded",
    )
    .bind(moved.iter().map(|(order_id, _, _)| *order_id).collect::<Vec<_>>())
    .bind(moved.iter().map(|(_, _, loaded)| *loaded).collect::<Vec<_>>())
    .bind(moved.iter().map(|(_, row, _)| row.reservation.state()).collect::<Vec<_>>())
    .bind(moved.iter().map(|(_, row, _)| row.version).collect::<Vec<_>>())
    .execute(conn)
    .await?;
    SaveError::unless_all_written(moved.len(), &result)
}

fn taken(reservation: &Reservation) -> sqlx::Result<String> {
    reservation.lines().map_or_else(|| Ok("[]".to_owned()), json)
}

fn json(value: &impl serde::Serialize) -> sqlx::Result<String> {
    serde_json::to_string(value).map_err(|error| sqlx::Error::Encode(error.into()))
}

fn shelf(rows: &[PgRow]) -> sqlx::Result<Shelf> {
    let products = rows.iter().map(product);
    products.map(|product| product.map(|it| (it.product_id.clone(), it))).collect()
}

fn product(row: &PgRow) -> sqlx::Result<Product> {
    let currency: String = row.try_get("price_currency")?;
    let price = Money::new(currency, row.try_get("price_units")?, row.try_get("price_nanos")?)
        .map_err(|error| unreadable("price_units", error))?;
    let Json(options): Json<Vec<ProductOption>> = row.try_get("options")?;
    Ok(Product {
        product_id: row.try_get("product_id")?,
        name: row.try_get("name")?,
        price,
        stock: row.try_get("stock")?,
        image_url: row.try_get("image_url")?,
        options,
        version: row.try_get("version")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}

fn reservation(row: &PgRow) -> sqlx::Result<Row> {
    let state: &str = row.try_get("state")?;
    let Json(lines): Json<Lines> = row.try_get("lines")?;
    let Json(shortages) = row.try_get("shortages")?;
    let decision: Option<Uuid> = row.try_get("decision_event_id")?;
    let reservation = match (state, decision) {
        ("RESERVED", Some(decision_event_id)) => Reservation::Reserved { decision_event_id, lines },
        ("RELEASED", Some(decision_event_id)) => Reservation::Released { decision_event_id, lines },
        ("REJECTED", Some(decision_event_id)) => {
            Reservation::Rejected { decision_event_id, shortages }
        }
        ("TOMBSTONE", None) => Reservation::Tombstone,
        (state, decision) => {
            return Err(unreadable("state", format!("{state} with the decision {decision:?}")));
        }
    };
    Ok(Row { version: row.try_get("version")?, reservation })
}

fn unreadable(
    column: &str,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> sqlx::Error {
    sqlx::Error::ColumnDecode { index: column.to_owned(), source: source.into() }
}
