//! Parked messages taken up again: an operator's retry handles them in order, a skip gives one up.

use sqlx::{Connection as _, PgConnection};

use super::{Inbox, InboxError};
use crate::{
    cause::Cause,
    parked::{self, Parked},
    policy::{Book, Reaction, Refused},
    trail::{self, Entry, Kind, Outcome},
};

impl<B: Book> Inbox<B> {
    /// Handles the parked messages of a key again, in order, each in its own transaction. `Ok(Err(..))`: one of them was
    /// refused again, and stays parked with all behind it. Returns how many are handled now.
    pub async fn retry_parked(
        &self,
        conn: &mut PgConnection,
        key: &str,
    ) -> Result<(usize, Result<(), Refused>), InboxError> {
        let mut handled = 0;
        while let Some(parked) = parked::first(conn, self.service, key).await? {
            let record = std::slice::from_ref(&parked.record);
            match self.attempt_until_decided(conn, record, Some(&parked)).await? {
                // None when somebody else took it up meanwhile.
                Ok(report) => handled += report.handled(),
                Err(reason) => return Ok((handled, Err(reason))),
            }
        }
        Ok((handled, Ok(())))
    }

    /// Gives a parked message up, as `verb` tells the trail. False when it is not parked any more.
    pub async fn skip_parked(
        &self,
        conn: &mut PgConnection,
        parked: &Parked,
        verb: &Cause,
    ) -> sqlx::Result<bool> {
        let mut tx = conn.begin().await?;
        if !parked::take(&mut tx, parked).await? {
            return Ok(false);
        }
        let message = self.receive(&parked.record, verb.now);
        let skipped = Reaction::nothing(Outcome::Skipped);
        let message = message.and_then(|message| message.entry(self.service, &skipped));
        let correlation_id = message.as_ref().and_then(|message| message.correlation_id);
        let verb =
            Entry { correlation_id, ..Entry::local(Kind::Verb, verb, Outcome::Skipped, &[]) };
        trail::note(&mut tx, &message.into_iter().chain([verb]).collect::<Vec<_>>()).await?;
        tx.commit().await?;
        Ok(true)
    }
}
