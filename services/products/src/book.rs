//! The rows that a batch of messages touches, held in memory while it is decided: the reservations, and the products
//! they are about. Each is written once, however many messages changed it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chassis::policy::{self, SaveError};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    domain::{Event, Reservation, Shelf},
    lines::{Line, Lines},
    store,
};

/// What a batch asks to be loaded.
#[derive(Debug, Default)]
pub struct Wants {
    orders: BTreeSet<Uuid>,
    products: BTreeSet<String>,
}

impl Wants {
    /// An order's reservation, and the products it holds.
    pub fn order(&mut self, order_id: Uuid) {
        self.orders.insert(order_id);
    }

    /// The products of these lines.
    pub fn products_of(&mut self, lines: &Lines) {
        self.products.extend(lines.iter().map(|line| line.product_id().to_owned()));
    }
}

/// A reservation and the version of its row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Grows by one with every step.
    pub version: i64,
    /// What the row says.
    pub reservation: Reservation,
}

/// The locked rows, as the batch has left them so far.
#[derive(Debug, Default)]
pub struct Book {
    rows: BTreeMap<Uuid, Row>,
    shelf: Shelf,
    loaded_rows: HashMap<Uuid, i64>,
    loaded_products: HashMap<String, i64>,
}

impl Book {
    /// The reservation of an order, if there is one.
    pub fn reservation(&self, order_id: Uuid) -> Option<&Reservation> {
        self.rows.get(&order_id).map(|row| &row.reservation)
    }

    /// The products, as they stand now.
    pub fn shelf(&self) -> &Shelf {
        &self.shelf
    }

    /// Takes over what was decided about an order.
    pub fn apply(&mut self, order_id: Uuid, reservation: Reservation, events: Vec<Event>) {
        let version = self.rows.get(&order_id).map_or(1, |row| row.version + 1);
        self.rows.insert(order_id, Row { version, reservation });
        for event in events {
            if let Event::ProductChanged(product) = event {
                self.shelf.insert(product.product_id.clone(), product);
            }
        }
    }
}

impl policy::Book for Book {
    type Wants = Wants;

    async fn load(conn: &mut PgConnection, wants: &Wants) -> sqlx::Result<Self> {
        let orders: Vec<Uuid> = wants.orders.iter().copied().collect();
        let rows = store::lock_reservations(conn, &orders).await?;
        let held = rows.values().filter_map(|row| match &row.reservation {
            Reservation::Reserved { lines, .. } => Some(lines),
            Reservation::Released { .. }
            | Reservation::Rejected { .. }
            | Reservation::Tombstone => None,
        });
        let held = held.flat_map(Lines::iter).map(Line::product_id);
        let products: BTreeSet<&str> =
            wants.products.iter().map(String::as_str).chain(held).collect();
        let products: Vec<&str> = products.into_iter().collect();
        let shelf = store::lock_products(conn, &products).await?;
        let loaded_rows = rows.iter().map(|(order_id, row)| (*order_id, row.version)).collect();
        let loaded_products =
            shelf.iter().map(|(product_id, product)| (product_id.clone(), product.version));
        Ok(Self { loaded_products: loaded_products.collect(), loaded_rows, rows, shelf })
    }

    async fn save(&self, conn: &mut PgConnection) -> Result<(), SaveError> {
        let mut new = Vec::new();
        let mut moved = Vec::new();
        for (order_id, row) in &self.rows {
            match self.loaded_rows.get(order_id) {
                None => new.push((*order_id, row)),
                Some(&loaded) if loaded != row.version => moved.push((*order_id, row, loaded)),
                Some(_) => {}
            }
        }
        let changed: Vec<_> = self
            .shelf
            .values()
            .filter_map(|product| {
                let loaded = *self.loaded_products.get(&product.product_id)?;
                (loaded != product.version).then_some((product, loaded))
            })
            .collect();
        store::insert_reservations(conn, &new).await?;
        store::update_reservations(conn, &moved).await?;
        store::update_products(conn, &changed).await
    }
}
