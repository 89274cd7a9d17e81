//! What would come of a message: read and decided as in earnest, with no database and nothing kept.

use chrono::{DateTime, Utc};

use super::{Inbox, Record};
use crate::{
    cause::Cause,
    policy::{Book, Reaction, Refused},
};

impl<B: Book> Inbox<B> {
    /// Decides a message on the rows of `book`, as if there were no others, and changes them there. None for a type that
    /// nobody here reacts to. Errors: why it would be parked; the book is to be thrown away then.
    pub fn rehearse(
        &self,
        record: &Record,
        book: &mut B,
        now: DateTime<Utc>,
    ) -> Option<Result<Reaction, Refused>> {
        let message = self.receive(record, now)?;
        let envelope = message.envelope;
        Some(message.decoded.and_then(|decoded| {
            decoded.wants(&mut B::Wants::default())?;
            decoded.react(book, &Cause::message(self.service, &envelope?, now))
        }))
    }
}
