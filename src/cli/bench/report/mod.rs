//! A page with plots of the rows: one file, which needs no network and no script.

mod crossover;
mod plot;
mod plots;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::row::Row;
use super::table;
use plots::Series;

const STYLE: &str = include_str!("style.css");

/// Rows that the table shows: the page stays small, and the record has them all.
const MAX_ROWS: usize = 1500;

/// Plots of one kind that a reader can take in.
const MAX_PLOTS: usize = 12;

/// The whole page.
pub(super) fn page(rows: &[Row]) -> String {
    let series = Series::of(rows);
    let sections = [
        section(
            "GPU or CPU",
            "How many times as fast as the CPU backend of its machine each GPU is. Blue: the GPU is faster; orange: the CPU is.",
            &[],
            crossover::maps(rows),
        ),
        section(
            "Throughput",
            "Steps of sequences per second, over all rows of a batch: more is better. Both axes are logarithmic; a line that rises straight gains with \
             every row, one that is flat has nothing left to give.",
            &series,
            plots::throughput(rows, &series),
        ),
        section(
            "Time of a step",
            "Microseconds of a whole call for each time step, by the size of the layer: less is better.",
            &series,
            plots::step_times(rows, &series),
        ),
        section(
            "Roofline",
            "What each call reaches of what its device does at most, as measured in the same run: the slope is the bandwidth of memory, the flat part \
             arithmetic. Operations for each byte are counted as if every step read its recurrent weights from memory and everything else moved once; points \
             above the slope had their weights from a cache or from registers.",
            &[],
            plots::rooflines(rows, &series),
        ),
    ];
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "cellgate bench" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    h1 { "LSTMs on " (devices(rows).join(" \u{b7} ")) }
                    p.muted { (rows.len()) " rows, " (verified(rows)) " " (table::dates(rows)) }
                    (tiles(rows))
                    @for section in sections { (section) }
                    (all_rows(rows))
                    (how())
                }
            }
        }
    };
    page.into_string()
}

/// A heading, what it is about, and plots; nothing where there are none.
fn section(title: &str, about: &str, series: &[Series], plots: Vec<Markup>) -> Markup {
    html! {
        @if !plots.is_empty() {
            h2 { (title) }
            p.about { (about) }
            @if series.len() > 1 {
                ul.legend { @for series in series { li class=(series.class) { i {} (series.name) } } }
            }
            @if plots.len() > MAX_PLOTS { p.about { "The first " (MAX_PLOTS) " of " (plots.len()) "." } }
            div.plots { @for plot in plots.iter().take(MAX_PLOTS) { (plot) } }
        }
    }
}

/// Names of the devices, each once.
fn devices(rows: &[Row]) -> Vec<String> {
    let mut names = Vec::new();
    for name in rows.iter().map(Row::device_name) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn verified(rows: &[Row]) -> String {
    let verified = rows.iter().filter(|row| row.verified).count();
    if verified == rows.len() { "all verified against float64.".to_owned() } else { format!("{verified} of them verified against float64.") }
}

/// What a reader wants to know first.
fn tiles(rows: &[Row]) -> Markup {
    let best = |name: &str, value: fn(&Row) -> Option<f64>| {
        let rows = rows.iter().filter(|row| row.device_name() == name);
        rows.filter_map(|row| Some((value(row)?, row))).max_by(|(a, _), (b, _)| a.total_cmp(b))
    };
    html! {
        div.tiles {
            @for name in devices(rows) {
                @if let Some((gflops, row)) = best(&name, |row| row.gflops) {
                    div.tile {
                        b { (plot::with_unit(gflops * 1e9, "FLOP/s")) }
                        span { (name) ", at most: " (table::percent(row.peak_share)) " of its peak in float32 (" (table::describe(row)) ")" }
                    }
                }
                @if let Some((ratio, row)) = best(&name, |row| row.ratio_to_cpu.filter(|_| row.backend.is_some())) {
                    div.tile {
                        b { (crossover::times(ratio)) @if ratio < 1.0 { " of" } " the CPU" }
                        span { (name) ", at most (" (table::describe(row)) ")" }
                    }
                }
            }
        }
    }
}

fn all_rows(rows: &[Row]) -> Markup {
    let table::Parts { common, columns, cells } = table::parts(rows);
    html! {
        h2 { "All rows" }
        p.about { (common) "." @if cells.len() > MAX_ROWS { " The first " (MAX_ROWS) " of " (cells.len()) "; the record has them all." } }
        div.scroll {
            table {
                thead { tr { @for column in &columns { th.number[column.is_number] { (column.name) } } } }
                tbody {
                    @for (row, cells) in rows.iter().zip(&cells).take(MAX_ROWS) {
                        tr.wrong[row.max_abs_err.is_some() && !row.verified] title=[row.failure.as_deref().or(Some(&row.why))] {
                            @for (column, cell) in columns.iter().zip(cells) { td.number[column.is_number] { (cell) } }
                        }
                    }
                }
            }
        }
    }
}

fn how() -> Markup {
    html! {
        h2 { "How this was measured" }
        p.about {
            "A time is the median of whole calls, tensors on the host before and after, uploads and readbacks included, on a device that is warm. Every output of \
             the first and of the last call was compared with the float64 reference. MAD is the median distance from the median, p95 what 95 of 100 calls stay below. \
             FLOP are multiplications and additions of the matrix products. Devices take turns row by row, one at a time; random weights take as long as \
             trained ones, because nothing depends on values. The peak is that of a kernel that does nothing but multiply and add in float32, the memory's that of \
             a large copy, bytes read and written together: shares above 100 % had their weights from a cache or from registers."
        }
    }
}
