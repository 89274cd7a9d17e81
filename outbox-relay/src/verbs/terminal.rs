//! What people see and are asked: results on stdout, everything else on stderr. A reader that has gone away is no reason
//! to stop.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal, Write as _},
};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;

use super::error::{Error, refuse};

/// Writes a line to stdout.
pub(crate) fn say(text: impl AsRef<str>) {
    let _ = print(text.as_ref());
}

/// Writes a line to stderr.
pub(crate) fn tell(text: impl AsRef<str>) {
    let _ = writeln!(io::stderr(), "{}", text.as_ref());
}

/// Writes a line to stdout that must not get lost.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

/// Writes something as JSON to stdout.
pub(crate) fn say_json(value: &impl Serialize) {
    say(serde_json::to_string_pretty(value).unwrap_or_default());
}

/// Goes on only if a person, or `--yes`, agrees to what was told.
///
/// # Errors
/// [`Error::Refused`]: nothing is changed.
pub(crate) async fn agree(yes: bool) -> Result<(), Error> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return refuse("nothing was changed: add --yes to do this without being asked");
    }
    let ask = || {
        let _ = write!(io::stderr(), "Type yes to go on: ");
        let mut answer = String::new();
        io::stdin().read_line(&mut answer).map(|_| answer.trim() == "yes")
    };
    match tokio::task::spawn_blocking(ask).await {
        Ok(Ok(true)) => Ok(()),
        Ok(Ok(false) | Err(_)) | Err(_) => refuse("nothing was changed"),
    }
}

/// Columns as wide as their widest cell.
#[derive(Debug)]
pub(crate) struct Table(Vec<Vec<String>>);

impl Table {
    pub(crate) fn new<const N: usize>(titles: [&str; N]) -> Self {
        Self(vec![titles.map(str::to_uppercase).into()])
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.0.push(cells.map(|cell| printable(&cell)).into());
    }

    /// All rows as lines, each behind the indent.
    pub(crate) fn show(&self, indent: &str) -> String {
        let width =
            |column: usize| self.0.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.0[0].len()).map(width).collect();
        let line = |row: &Vec<String>| {
            let cells =
                row.iter().zip(&widths).fold(indent.to_owned(), |mut line, (cell, width)| {
                    let _ = write!(line, "{cell:width$}  ");
                    line
                });
            cells.trim_end().to_owned()
        };
        self.0.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

/// Without anything that could move the cursor of a terminal, or pretend to be another line.
pub(crate) fn printable(text: &str) -> String {
    let escape = |letter: char| {
        if letter.is_control() { letter.escape_default().to_string() } else { letter.to_string() }
    };
    text.chars().map(escape).collect()
}

/// A time as people and programs read it.
pub(crate) fn time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// A span as people read it: two figures are enough.
pub(crate) fn span(seconds: f64) -> String {
    match seconds {
        few if few < 10.0 => format!("{few:.1}s"),
        some if some < 120.0 => format!("{some:.0}s"),
        minutes if minutes < 7200.0 => format!("{:.0}m", minutes / 60.0),
        hours if hours < 172_800.0 => format!("{:.0}h", hours / 3600.0),
        days => format!("{:.0}d", days / 86_400.0),
    }
}

/// A number of things: `1 row`, `2 rows`.
pub(crate) fn count(number: i64, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(["key", "rows"]);
        table.row(["a-long-key".to_owned(), "1".to_owned()]);
        table.row(["é\n".to_owned(), "22".to_owned()]);
        assert_eq!(table.show("  "), "  KEY         ROWS\n  a-long-key  1\n  é\\n         22");
    }

    #[test]
    fn nothing_reaches_the_terminal_that_could_move_its_cursor() {
        assert_eq!(printable("a\u{1b}[2Jé\r"), "a\\u{1b}[2Jé\\r");
    }

    #[test]
    fn spans_are_short() {
        let spans = [0.04, 59.6, 150.0, 10_000.0, 300_000.0].map(span);
        assert_eq!(spans, ["0.0s", "60s", "2m", "3h", "3d"]);
    }
}
