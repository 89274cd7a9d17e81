//! Writing down how far things have come: the cursors, and with them the rows that were set aside.

use sqlx::{Connection, PgConnection};

use crate::{Error, error::postgres, lease::Grant, ledger::Ledger, parking::Parking, table::Table};

/// Records the ledger's positions, in one transaction with the rows that they pass unsent.
///
/// # Errors
/// Postgres', or [`Error::LeaseLost`]; then nothing was written that is not ours.
pub async fn record(
    connection: &mut PgConnection,
    grant: &Grant,
    table: &Table,
    ledger: &mut Ledger,
    parking: &mut Parking,
) -> Result<(), Error> {
    let rows = ledger.set_aside().to_vec();
    if rows.is_empty() {
        for (lane, followers) in ledger.moved() {
            lane.record(connection, grant, followers).await?;
        }
    } else {
        let mut transaction = connection.begin().await.map_err(postgres("parking"))?;
        parking.keep(&mut transaction, table, &rows, false).await?;
        for (lane, followers) in ledger.moved() {
            lane.record(&mut transaction, grant, followers).await?;
        }
        transaction.commit().await.map_err(postgres("parking"))?;
    }
    parking.kept(&rows);
    ledger.recorded();
    Ok(())
}
