//! A map of batches and sizes: where a GPU is faster than the CPU, and how much.

use std::collections::BTreeMap;

use maud::{Markup, html};

use crate::cli::bench::row::Row;
use crate::cli::bench::table;

const CELL_WIDTH: f64 = 58.0;
const CELL_HEIGHT: f64 = 34.0;
const LEFT: f64 = 64.0;
const BOTTOM: f64 = 40.0;

/// Sizes of a map that a reader can take in.
const MAX_SIZES: usize = 24;

/// A ratio that is coloured in full, either way.
const FULL: f64 = 8.0;

/// One map for every GPU, kind of network, number of steps, and way in which weights are stored.
pub(super) fn maps(rows: &[Row]) -> Vec<Markup> {
    type Key<'a> = (Option<&'a str>, String, [usize; 4], cellgate::Precision);
    let mut maps: BTreeMap<Key<'_>, Vec<&Row>> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.backend.is_some() && row.ratio_to_cpu.is_some()) {
        let sizes = [row.layers, row.directions, row.own_input(), row.seq_len];
        maps.entry((row.model.as_deref(), row.device_name(), sizes, row.precision)).or_default().push(row);
    }
    maps.into_values().map(|rows| map(&rows)).collect()
}

fn map(rows: &[&Row]) -> Markup {
    let sizes = |of: fn(&Row) -> usize| {
        let mut sizes: Vec<usize> = rows.iter().map(|row| of(row)).collect();
        sizes.sort_unstable();
        sizes.dedup();
        // at even distances, where there are too many to read
        let every = sizes.len().div_ceil(MAX_SIZES).max(1);
        sizes.into_iter().step_by(every).collect::<Vec<usize>>()
    };
    let (batches, hidden) = (sizes(|row| row.batch), sizes(|row| row.hidden_size));
    #[expect(clippy::cast_precision_loss, reason = "a place in a plot")]
    let (across, down) = (|column: usize| LEFT + column as f64 * CELL_WIDTH, |row: usize| row as f64 * CELL_HEIGHT);
    let (width, height) = (across(batches.len()) + 8.0, down(hidden.len()) + BOTTOM);
    let faster = rows.iter().filter(|row| row.ratio_to_cpu.is_some_and(|ratio| ratio > 1.0)).count();
    html! {
        figure {
            figcaption {
                (rows[0].device_name()) " " span { (table::network(rows[0])) (rows[0].seq_len) " steps, " (rows[0].precision) ": faster in " (faster) " of " (rows.len()) }
            }
            svg viewBox={ "0 0 " (width) " " (height) } style={ "max-width:" (width * 1.2) "px" } role="img" aria-label="ratio to the CPU by batch and hidden size" {
                @for (place, size) in hidden.iter().rev().enumerate() {
                    text x=(LEFT - 8.0) y=(down(place) + CELL_HEIGHT / 2.0 + 4.0) text-anchor="end" { (size) }
                }
                @for (place, batch) in batches.iter().enumerate() {
                    text x=(across(place) + CELL_WIDTH / 2.0) y=(down(hidden.len()) + 16.0) text-anchor="middle" { (batch) }
                }
                text x=(f64::midpoint(LEFT, width)) y=(height - 5.0) text-anchor="middle" { "batch" }
                // where the two rows of numbers meet
                text x=(LEFT - 8.0) y=(down(hidden.len()) + 16.0) text-anchor="end" { "hidden" }
                @for row in rows {
                    @if let (Some(ratio), Some(column), Some(line)) = (row.ratio_to_cpu, place(&batches, row.batch), place(&hidden, row.hidden_size)) {
                        (cell(row, ratio, across(column), down(hidden.len() - 1 - line)))
                    }
                }
            }
        }
    }
}

fn place(sizes: &[usize], size: usize) -> Option<usize> {
    sizes.binary_search(&size).ok()
}

fn cell(row: &Row, ratio: f64, x: f64, y: f64) -> Markup {
    let class = match times(ratio).as_str() {
        "1.0\u{d7}" => "even",
        _ if ratio > 1.0 => "win",
        _ => "lose",
    };
    let much = (10.0 + 75.0 * ratio.ln().abs() / FULL.ln()).min(85.0);
    html! {
        rect class={ "cell " (class) } x=(x) y=(y) width=(CELL_WIDTH) height=(CELL_HEIGHT) rx="5" style={ "--much:" (format!("{much:.0}%")) } {
            title { (table::describe(row)) ": " (table::digits(row.median_ms)) " ms, " (table::digits(Some(ratio))) " times as fast as the CPU\n" (row.schedule) }
        }
        text.ratio x=(x + CELL_WIDTH / 2.0) y=(y + CELL_HEIGHT / 2.0 + 4.0) text-anchor="middle" pointer-events="none" {
            (times(ratio))
        }
    }
}

/// `12x` for a GPU that is faster, `1/12` for one that is slower, `1.0x` where neither is.
pub(super) fn times(ratio: f64) -> String {
    let digits = |ratio: f64| if ratio < 9.95 { format!("{ratio:.1}") } else { format!("{ratio:.0}") };
    if ratio > 0.95 { format!("{}\u{d7}", digits(ratio)) } else { format!("1/{}", digits(1.0 / ratio)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_say_who_is_faster() {
        assert_eq!([0.05, 0.5, 0.97, 1.0, 3.24, 250.0].map(times), ["1/20", "1/2.0", "1.0\u{d7}", "1.0\u{d7}", "3.2\u{d7}", "250\u{d7}"]);
    }
}
