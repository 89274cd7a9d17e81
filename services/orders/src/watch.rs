//! Following an order: every transition, by revision.

use chassis::watch::Watched;
use proto::orders::v1::{
    Order,
    OrderState::{Cancelled, Completed},
    WatchOrderResponse,
};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{order::Transition, store, wire};

/// An order as a caller has seen it.
#[derive(Debug)]
pub struct Seen {
    /// Which.
    pub order_id: Uuid,
    /// How it looked.
    pub order: Order,
}

impl Watched for Seen {
    type Step = Transition;
    type Answer = WatchOrderResponse;

    fn id(&self) -> Uuid {
        self.order_id
    }

    fn position(&self) -> i64 {
        self.order.revision
    }

    fn is_final(&self) -> bool {
        matches!(self.order.state(), Cancelled | Completed)
    }

    fn see(&mut self, step: &Transition) -> WatchOrderResponse {
        self.order = wire::after(self.order.clone(), step);
        WatchOrderResponse {
            order: Some(self.order.clone()),
            transition: Some(wire::transition(step)),
        }
    }

    fn place(step: &Transition) -> (Uuid, i64) {
        (step.order_id, step.revision)
    }

    async fn after(
        conn: &mut PgConnection,
        positions: &[(Uuid, i64)],
    ) -> sqlx::Result<Vec<Transition>> {
        store::transitions_after(conn, positions).await
    }
}
