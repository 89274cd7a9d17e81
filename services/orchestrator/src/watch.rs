//! Following a saga: every change, by version.

use chassis::watch::Watched;
use proto::orchestrator::v1::WatchSagaResponse;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{definition::Definition, definition::Does, row::Recorded, store, wire};

/// A saga as a caller has seen it.
#[derive(Debug)]
pub struct Seen {
    /// Which.
    pub saga_id: Uuid,
    /// What it does.
    pub definition: &'static Definition,
    /// The version that was seen.
    pub version: i64,
    /// Whether nothing can follow.
    pub is_final: bool,
}

impl Watched for Seen {
    type Step = Recorded;
    type Answer = WatchSagaResponse;

    fn id(&self) -> Uuid {
        self.saga_id
    }

    fn position(&self) -> i64 {
        self.version
    }

    fn is_final(&self) -> bool {
        self.is_final
    }

    fn see(&mut self, step: &Recorded) -> WatchSagaResponse {
        self.version = step.version;
        let state = self.definition.state(&step.state);
        self.is_final = state.is_some_and(|state| state.does == Does::End);
        WatchSagaResponse { saga: None, change: Some(wire::change(step)) }
    }

    fn place(step: &Recorded) -> (Uuid, i64) {
        (step.saga_id, step.version)
    }

    async fn after(
        conn: &mut PgConnection,
        positions: &[(Uuid, i64)],
    ) -> sqlx::Result<Vec<Recorded>> {
        store::changes_after(conn, positions).await
    }
}
