//! Markdown tables whose columns are as wide in the text as on the page, and the numbers in them.

use std::time::Duration;

/// A table under its heading.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With the names of the columns; the first is text, the others are numbers.
    pub(crate) fn new(columns: &[&str]) -> Self {
        Self { rows: vec![columns.iter().map(|column| (*column).to_owned()).collect()] }
    }

    /// One line more.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The text.
    pub(crate) fn render(&self) -> String {
        let columns = self.rows.first().map_or(0, Vec::len);
        let widths: Vec<usize> = (0..columns).map(|column| self.width(column)).collect();
        let mut text = String::new();
        for (index, row) in self.rows.iter().enumerate() {
            text.push('|');
            for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
                let cell = if column == 0 {
                    format!(" {cell:width$} |")
                } else {
                    format!(" {cell:>width$} |")
                };
                text.push_str(&cell);
            }
            text.push('\n');
            if index == 0 {
                text.push_str(&rule(&widths));
            }
        }
        text
    }

    fn width(&self, column: usize) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or_default().max(3)
    }
}

fn rule(widths: &[usize]) -> String {
    let cells = widths.iter().enumerate().map(|(column, width)| {
        let dashes = "-".repeat(width + usize::from(column == 0));
        if column == 0 { format!("-{dashes}|") } else { format!("{dashes}-:|") }
    });
    format!("|{}\n", cells.collect::<String>())
}

/// 1234567.8 is 1,234,568.
pub(crate) fn count(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// How many times one is the other: 9.3x, or 0.87x where the second digit counts.
pub(crate) fn ratio(one: f64, other: f64) -> String {
    let ratio = one / other;
    if ratio < 3.0 { format!("{ratio:.2}x") } else { format!("{ratio:.1}x") }
}

/// Microseconds as milliseconds.
pub(crate) fn millis(micros: u64) -> String {
    format!("{:.2} ms", micros as f64 / 1000.0)
}

/// Bytes as mebibytes.
pub(crate) fn mebibytes(bytes: u64) -> String {
    format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20))
}

/// Seconds with one digit.
pub(crate) fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// 0.95 is 95 %.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}
