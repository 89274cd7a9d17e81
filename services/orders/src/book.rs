//! The orders and products a batch of messages touches, held in memory between load and save.

use std::collections::{BTreeMap, BTreeSet};

use chassis::{
    cause::{Cause, Coordination},
    policy::{Book as ChassisBook, Reaction, Refused, SaveError},
    saga,
    trail::Outcome,
};
use proto::orders::v1::OrderState;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    catalogue::{self, Product},
    domain::{Command, Message},
    order::{self, Order, Transition},
    store,
};

/// The orders to load.
#[derive(Debug, Default)]
pub struct Wants(BTreeSet<Uuid>);

impl Wants {
    /// Just one.
    pub fn one(order_id: Uuid) -> Self {
        Self(BTreeSet::from([order_id]))
    }

    /// These.
    pub fn all(order_ids: impl IntoIterator<Item = Uuid>) -> Self {
        Self(order_ids.into_iter().collect())
    }

    /// One more, as an event names it.
    pub fn order(&mut self, order_id: &str) -> Result<(), Refused> {
        self.0.insert(parse(order_id)?);
        Ok(())
    }
}

/// An order id as an event names it.
fn parse(order_id: &str) -> Result<Uuid, Refused> {
    Uuid::try_parse(order_id).map_err(|_| Refused(format!("{order_id:?} is not an order id")))
}

struct Loaded {
    order: Order,
    was_settled: bool,
    loaded_version: i64,
}

/// The rows of a batch.
#[derive(Default)]
pub struct Book {
    orders: BTreeMap<Uuid, Loaded>,
    products: BTreeMap<String, Product>,
    transitions: Vec<Transition>,
}

impl std::fmt::Debug for Book {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Book").field("orders", &self.orders.len()).finish_non_exhaustive()
    }
}

impl ChassisBook for Book {
    type Wants = Wants;

    async fn load(conn: &mut PgConnection, Wants(order_ids): &Wants) -> sqlx::Result<Self> {
        if order_ids.is_empty() {
            return Ok(Self::default());
        }
        let order_ids: Vec<Uuid> = order_ids.iter().copied().collect();
        let orders = store::lock_orders(conn, &order_ids).await?.into_iter();
        let loaded = |order: Order| Loaded {
            loaded_version: order.version,
            was_settled: order.settled_at.is_some(),
            order,
        };
        let orders = orders.map(|order| (order.order_id, loaded(order)));
        Ok(Self { orders: orders.collect(), ..Self::default() })
    }

    async fn save(&self, conn: &mut PgConnection) -> Result<(), SaveError> {
        let changed: Vec<_> = self
            .orders
            .values()
            .filter(|loaded| loaded.order.version != loaded.loaded_version)
            .map(|loaded| (&loaded.order, loaded.loaded_version))
            .collect();
        store::update_orders(conn, &changed).await?;
        store::insert_transitions(conn, &self.transitions).await?;
        catalogue::upsert(conn, &self.products.values().cloned().collect::<Vec<_>>()).await?;
        Ok(())
    }

    /// The first transition out of PENDING settles an order, whatever follows it in the same batch.
    fn committed(&self) {
        let mut settled = BTreeSet::new();
        for transition in self.transitions.iter().filter(|it| it.state != OrderState::Pending) {
            let Some(loaded) = self.orders.get(&transition.order_id) else { continue };
            if !loaded.was_settled && settled.insert(transition.order_id) {
                saga::settled(
                    loaded.order.coordination,
                    outcome(transition.state),
                    transition.created_at - loaded.order.created_at,
                );
            }
        }
    }
}

fn outcome(state: OrderState) -> &'static str {
    if state == OrderState::Cancelled { "cancelled" } else { "confirmed" }
}

impl Book {
    /// An order as it stands in memory, if it exists.
    pub fn order(&self, order_id: Uuid) -> Option<&Order> {
        self.orders.get(&order_id).map(|loaded| &loaded.order)
    }

    /// What a participant reports about an order that the services coordinate among themselves.
    pub fn report(
        &mut self,
        order_id: &str,
        message: Message,
        cause: &Cause,
    ) -> Result<Reaction, Refused> {
        let order_id = parse(order_id)?;
        match self.order(order_id) {
            Some(order) if !Coordination::is_commanded(Some(order.coordination)) => {
                self.decide(order_id, message, cause).map_err(Refused::from)
            }
            // The orchestrator's business, or nobody's: no message precedes its order here.
            Some(_) | None => Ok(Reaction::nothing(Outcome::Ignored)),
        }
    }

    /// What the orchestrator asks an order that it drives to decide.
    pub fn obey(
        &mut self,
        order_id: &str,
        command: Command,
        cause: &Cause,
    ) -> Result<Reaction, Refused> {
        let order_id = parse(order_id)?;
        Refused::unless_commanded(cause, order_id)?;
        match self.order(order_id).map(|order| order.coordination) {
            Some(Coordination::Orchestration) => {
                self.decide(order_id, Message::Command(command), cause).map_err(Refused::from)
            }
            Some(Coordination::Choreography) => {
                Err(Refused(format!("a command for order {order_id}, which is choreographed here")))
            }
            None => Err(Refused(format!("a command for order {order_id}, which does not exist"))),
        }
    }

    /// Decides a message on an order; nothing for one that does not exist.
    pub fn decide(
        &mut self,
        order_id: Uuid,
        message: Message,
        cause: &Cause,
    ) -> Result<Reaction, order::Error> {
        let Some(loaded) = self.orders.get_mut(&order_id) else {
            return Ok(Reaction::nothing(Outcome::Ignored));
        };
        let (reaction, transition) = loaded.order.decide(message, cause)?;
        self.transitions.extend(transition);
        Ok(reaction)
    }

    /// Takes a product over, unless a newer one was heard of in this batch.
    pub fn hear(&mut self, product: Product) -> Reaction {
        let heard = self.products.get(&product.product_id);
        if heard.is_some_and(|heard| !product.supersedes(heard)) {
            return Reaction::nothing(Outcome::Raced);
        }
        self.products.insert(product.product_id.clone(), product);
        Reaction::applied(Vec::new())
    }
}
