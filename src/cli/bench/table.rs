//! Rows as a table, for a terminal and in Markdown. What all rows have in common stands above it.

use cellgate::Precision;

use super::row::{Outcome, Row};
use crate::cli::output;

/// A column, and what it says of a row.
pub(super) struct Column {
    pub(super) name: &'static str,
    /// whether it stands above the table where all rows say the same
    is_constant: bool,
    pub(super) is_number: bool,
    /// whether a page in Markdown does without it
    is_detail: bool,
    value: fn(&Row) -> String,
}

const fn size(name: &'static str, value: fn(&Row) -> String) -> Column {
    Column { name, is_constant: true, is_number: true, is_detail: false, value }
}

const fn number(name: &'static str, value: fn(&Row) -> String) -> Column {
    Column { name, is_constant: false, is_number: true, is_detail: false, value }
}

const fn word(name: &'static str, is_constant: bool, value: fn(&Row) -> String) -> Column {
    Column { name, is_constant, is_number: false, is_detail: false, value }
}

const fn detail(name: &'static str, value: fn(&Row) -> String) -> Column {
    Column { name, is_constant: false, is_number: true, is_detail: true, value }
}

const COLUMNS: &[Column] = &[
    word("device", true, Row::device_name),
    word("model", true, |row| row.model.clone().unwrap_or_else(|| "random weights".to_owned())),
    word("precision", true, |row| row.precision.to_string()),
    size("layers", |row| row.layers.to_string()),
    size("directions", |row| row.directions.to_string()),
    size("input", |row| if row.own_input() == 0 { "= hidden".to_owned() } else { row.input_size.to_string() }),
    size("hidden", |row| row.hidden_size.to_string()),
    size("batch", |row| row.batch.to_string()),
    size("steps", |row| row.seq_len.to_string()),
    detail("n", |row| row.n.to_string()),
    number("median ms", |row| digits(row.median_ms)),
    detail("MAD", |row| digits(row.mad_ms)),
    detail("p95", |row| digits(row.p95_ms)),
    number("\u{b5}s/step", |row| digits(row.us_per_step)),
    number("GFLOP/s", |row| digits(row.gflops)),
    number("of f32 peak", |row| percent(row.peak_share)),
    number("of memory", |row| percent(row.bandwidth_share)),
    number("x CPU", |row| digits(row.ratio_to_cpu)),
    number("max error", max_error),
    word("schedule", false, |row| if row.schedule.is_empty() { "-".to_owned() } else { row.schedule.clone() }),
];

fn max_error(row: &Row) -> String {
    row.max_abs_err.map_or_else(|| "-".to_owned(), |error| format!("{error:.1e}")) + if row.outcome == Outcome::Wrong { " WRONG" } else { "" }
}

/// What a table is made of.
pub(super) struct Parts {
    /// what all rows have in common
    pub(super) common: String,
    /// the other columns
    pub(super) columns: Vec<&'static Column>,
    /// what these say, row by row
    pub(super) cells: Vec<Vec<String>>,
}

/// Rows as a table.
pub(super) fn parts(rows: &[Row]) -> Parts {
    let is_common = |column: &&Column| {
        let first = rows.first().map(column.value);
        column.is_constant && rows.iter().all(|row| Some((column.value)(row)) == first)
    };
    let (common, columns): (Vec<&Column>, Vec<&Column>) = COLUMNS.iter().partition(is_common);
    let common = rows.first().map_or_else(Vec::new, |row| common.iter().map(|column| format!("{} {}", column.name, (column.value)(row))).collect());
    let cells = rows.iter().map(|row| columns.iter().map(|column| (column.value)(row)).collect()).collect();
    Parts { common: common.join(", "), columns, cells }
}

/// For a terminal.
pub(super) fn text(rows: &[Row]) -> String {
    let Parts { common, columns, mut cells } = parts(rows);
    cells.insert(0, columns.iter().map(|column| column.name.to_owned()).collect());
    for (place, column) in columns.iter().enumerate().filter(|(_, column)| column.is_number) {
        let width = cells.iter().map(|row| row[place].chars().count()).max().unwrap_or(column.name.len());
        cells.iter_mut().for_each(|row| row[place] = format!("{:>width$}", row[place]));
    }
    format!("{common}\n{}", output::table(&cells, ""))
}

/// For a page in Markdown.
pub(super) fn markdown(rows: &[Row]) -> String {
    let Parts { common, columns, cells } = parts(rows);
    let shown = |cells: &[String]| {
        let kept: Vec<String> =
            cells.iter().zip(&columns).filter(|(_, column)| !column.is_detail).map(|(cell, _)| cell.replace('|', "\\|")).collect();
        format!("| {} |", kept.join(" | "))
    };
    let names = columns.iter().map(|column| column.name.to_owned()).collect::<Vec<_>>();
    let rule = columns.iter().map(|column| if column.is_number { "--:" } else { "---" }.to_owned()).collect::<Vec<_>>();
    let lines: Vec<String> = [names, rule].iter().chain(&cells).map(|cells| shown(cells)).collect();
    format!("{}: {common}.\n\n{}\n", dates(rows), lines.join("\n"))
}

/// When the rows were measured, and by which version.
pub(super) fn dates(rows: &[Row]) -> String {
    let mut when: Vec<String> = rows.iter().map(|row| format!("{}, cellgate {}", row.date, row.cellgate)).collect();
    when.sort();
    when.dedup();
    when.join("; ")
}

/// A row's call, for people.
pub(super) fn describe(row: &Row) -> String {
    let units = if row.model.is_some() { String::new() } else { format!("hidden {}, ", row.hidden_size) };
    let precision = if row.precision == Precision::F32 { String::new() } else { format!(", {}", row.precision) };
    format!("{}{units}batch {}, {} steps{precision}", network(row), row.batch, row.seq_len)
}

/// The network, as far as it is not usual: one layer that walks forward over as many features as it has units.
pub(super) fn network(row: &Row) -> String {
    let Row { layers, directions, input_size, .. } = row;
    let counted = |count: usize, what: &str| if count == 1 { String::new() } else { format!("{count} {what}, ") };
    let input = if row.own_input() == 0 { String::new() } else { format!("{input_size} features, ") };
    row.model.clone().map_or_else(|| format!("{}{}{input}", counted(*layers, "layers"), counted(*directions, "directions")), |model| model + ", ")
}

/// Three digits, as many as a time is worth.
pub(super) fn digits(value: Option<f64>) -> String {
    let Some(value) = value else { return "-".to_owned() };
    match value {
        0.0 => "0".to_owned(),
        value if value >= 99.95 => format!("{value:.0}"),
        value if value >= 9.995 => format!("{value:.1}"),
        value if value >= 0.9995 => format!("{value:.2}"),
        value if value >= 0.099_95 => format!("{value:.3}"),
        value if value >= 0.009_995 => format!("{value:.4}"),
        value if value >= 0.000_999_5 => format!("{value:.5}"),
        value => format!("{value:.1e}"),
    }
}

pub(super) fn percent(share: Option<f64>) -> String {
    share.map_or_else(
        || "-".to_owned(),
        |share| format!("{} %", if share < 0.0995 { format!("{:.1}", share * 100.0) } else { format!("{:.0}", share * 100.0) }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        let found = [0.0, 1.2e-6, 0.00123, 0.0123, 0.123, 1.234, 9.996, 12.34, 99.96, 123.4, 1234.0].map(|value| digits(Some(value)));
        assert_eq!(found, ["0", "1.2e-6", "0.00123", "0.0123", "0.123", "1.23", "10.0", "12.3", "100", "123", "1234"]);
        assert_eq!([0.0042, 0.09, 0.5, 1.07].map(|share| percent(Some(share))), ["0.4 %", "9.0 %", "50 %", "107 %"]);
        assert_eq!((digits(None), percent(None)), ("-".to_owned(), "-".to_owned()));
    }
}
