//! `prepare`: the SQL that makes a mapped table fit for the relay, for whoever owns that table to read and to run.

use super::{
    error::{Error, refuse},
    terminal::say,
};
use crate::cli;

/// Prints it for every mapped source that is meant. Nothing is asked of a database, and nothing is changed.
///
/// # Errors
/// That none of them is mapped: the tables of the migrations need no preparation.
pub fn print(flags: &cli::Prepare) -> Result<(), Error> {
    let mut printed = 0;
    for source in flags.databases.chosen()? {
        let table = &source.table;
        let sql = if flags.copying { table.copying() } else { table.preparation() };
        if let Some(sql) = sql {
            say(format!("-- {}: {}\n{}", source.name, table.name, sql.trim_end()));
            printed += 1;
        }
    }
    if printed == 0 {
        return refuse("no source has a [source.table]: name one in the file that --config reads");
    }
    Ok(())
}
