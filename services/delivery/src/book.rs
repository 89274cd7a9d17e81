//! The deliveries that a batch touches, in memory between load and save.

use std::collections::{BTreeSet, HashMap, hash_map::Entry};

use chassis::{
    cause::Cause,
    policy::{self, SaveError},
};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    domain::State,
    parcel::{Delivery, Parcel},
    store,
};

/// The deliveries that a batch touches, by order.
#[derive(Debug, Default)]
pub struct Book {
    deliveries: HashMap<Uuid, Delivery>,
    /// The versions that were loaded; absent means that there was no row.
    loaded: HashMap<Uuid, i64>,
}

impl Book {
    /// The delivery of an order, if there is one.
    pub fn find(&self, order_id: Uuid) -> Option<&Delivery> {
        self.deliveries.get(&order_id)
    }

    /// Moves the delivery of an order on; where there is none, opens it with this parcel.
    pub fn advance(
        &mut self,
        order_id: Uuid,
        state: State,
        parcel: Option<Parcel>,
        cause: &Cause,
    ) -> &Delivery {
        match self.deliveries.entry(order_id) {
            Entry::Occupied(entry) => {
                let delivery = entry.into_mut();
                delivery.advance(state, cause.now);
                delivery
            }
            Entry::Vacant(entry) => entry.insert(Delivery::new(order_id, parcel, state, cause)),
        }
    }
}

impl policy::Book for Book {
    type Wants = BTreeSet<Uuid>;

    async fn load(conn: &mut PgConnection, wants: &Self::Wants) -> sqlx::Result<Self> {
        let order_ids: Vec<Uuid> = wants.iter().copied().collect();
        let deliveries = store::lock(conn, &order_ids).await?;
        Ok(Self {
            loaded: deliveries
                .iter()
                .map(|delivery| (delivery.order_id, delivery.version))
                .collect(),
            deliveries: deliveries
                .into_iter()
                .map(|delivery| (delivery.order_id, delivery))
                .collect(),
        })
    }

    async fn save(&self, conn: &mut PgConnection) -> Result<(), SaveError> {
        let (known, new): (Vec<_>, Vec<_>) = self
            .deliveries
            .values()
            .partition(|delivery| self.loaded.contains_key(&delivery.order_id));
        let changed: Vec<_> = known
            .into_iter()
            .filter_map(|delivery| Some((delivery, *self.loaded.get(&delivery.order_id)?)))
            .filter(|(delivery, loaded)| delivery.version != *loaded)
            .collect();
        store::insert(conn, &new).await?;
        store::update(conn, &changed).await
    }
}
