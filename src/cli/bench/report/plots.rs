//! Which rows are plotted, and how they are grouped.

use std::collections::BTreeMap;

use cellgate::measure::Peak;
use maud::Markup;

use super::plot::{Axis, Join, Line, Plot, Point};
use crate::cli::bench::row::Row;
use crate::cli::bench::table;

/// Points of a line that an eye can tell apart. The page stays small, and the record has them all.
const MAX_POINTS: usize = 100;

/// Colours in the style sheet; the first one is the CPU's.
const COLOURS: usize = 8;

/// A device, with weights stored in one way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Series {
    pub(super) name: String,
    /// its colour
    pub(super) class: String,
    device: String,
    precision: cellgate::Precision,
}

impl Series {
    /// Those of a record, in their order.
    pub(super) fn of(rows: &[Row]) -> Vec<Self> {
        let several = rows.iter().any(|row| row.precision != rows[0].precision);
        let mut found: Vec<Self> = Vec::new();
        let mut devices: Vec<String> = Vec::new();
        for row in rows {
            if found.iter().any(|series| series.has(row)) {
                continue;
            }
            let device = row.device_name();
            let number = devices.iter().position(|known| *known == device).unwrap_or_else(|| {
                devices.push(device.clone());
                devices.len() - 1
            });
            let name = if several { format!("{device}, {}", row.precision) } else { device.clone() };
            // a device has its colour, grey being the CPU's that comes first, and a way of storing weights its kind of line
            let colour = if number == 0 && row.backend.is_none() { 0 } else { number % (COLOURS - 1) + usize::from(rows[0].backend.is_some()) };
            found.push(Self { name, class: format!("s{colour} {}", row.precision), device, precision: row.precision });
        }
        found
    }

    fn has(&self, row: &Row) -> bool {
        self.precision == row.precision && self.device == row.device_name()
    }
}

/// Rows that have the model and what `key` says in common, for every such group in which `x` has several values.
fn groups(rows: &[Row], x: fn(&Row) -> usize, key: fn(&Row) -> Vec<usize>) -> Vec<Vec<&Row>> {
    let mut groups: BTreeMap<(Option<&str>, Vec<usize>), Vec<&Row>> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.median_ms.is_some()) {
        groups.entry((row.model.as_deref(), key(row))).or_default().push(row);
    }
    let several = |rows: &Vec<&Row>| rows.iter().any(|row| x(row) != x(rows[0]));
    groups.into_values().filter(several).collect()
}

/// Steps of sequences per second by batch.
pub(super) fn throughput(rows: &[Row], series: &[Series]) -> Vec<Markup> {
    let key = |row: &Row| vec![row.layers, row.directions, row.hidden_size, row.input_size, row.seq_len];
    let plot = |rows: Vec<&Row>| {
        let hidden = if rows[0].model.is_some() { String::new() } else { format!("{} units, ", rows[0].hidden_size) };
        let title = format!("{}{hidden}{} steps", table::network(rows[0]), rows[0].seq_len);
        by(&rows, series, title, ("batch", |row| row.batch), ("steps per second", Row::steps_per_second))
    };
    groups(rows, |row| row.batch, key).into_iter().map(plot).collect()
}

/// Microseconds of a step by units.
pub(super) fn step_times(rows: &[Row], series: &[Series]) -> Vec<Markup> {
    let key = |row: &Row| vec![row.layers, row.directions, row.own_input(), row.batch, row.seq_len];
    let plot = |rows: Vec<&Row>| {
        let title = format!("{}batch {}, {} steps", table::network(rows[0]), rows[0].batch, rows[0].seq_len);
        by(&rows, series, title, ("hidden size", |row| row.hidden_size), ("\u{b5}s per step", |row| row.us_per_step))
    };
    groups(rows, |row| row.hidden_size, key).into_iter().map(plot).collect()
}

/// A line for each device.
fn by(rows: &[&Row], series: &[Series], title: String, x: (&'static str, fn(&Row) -> usize), y: (&'static str, fn(&Row) -> Option<f64>)) -> Markup {
    #[expect(clippy::cast_precision_loss, reason = "a place in a plot")]
    let size = |row: &Row| (x.1)(row) as f64;
    let line = |series: &Series| {
        let of_it = rows.iter().filter(|row| series.has(row));
        let mut points: Vec<Point> = of_it.filter_map(|row| Some(Point { x: size(row), y: (y.1)(row)?, title: Some(hint(row)) })).collect();
        points.sort_by(|a, b| a.x.total_cmp(&b.x));
        Line { class: series.class.clone(), points: thinned(points), join: Join::Line }
    };
    let values = rows.iter().filter_map(|row| (y.1)(row));
    let (x, y) = (Axis::sizes(x.0, rows.iter().map(|row| size(row))), Axis::values(y.0, values));
    Plot { title, about: String::new(), x, y, lines: series.iter().map(line).collect() }.draw()
}

/// A plot for every device: its roof, and what calls reach of it.
pub(super) fn rooflines(rows: &[Row], series: &[Series]) -> Vec<Markup> {
    let mut devices: Vec<&str> = Vec::new();
    for series in series {
        if !devices.contains(&series.device.as_str()) {
            devices.push(&series.device);
        }
    }
    devices.into_iter().filter_map(|device| roofline(device, rows, series)).collect()
}

fn roofline(device: &str, rows: &[Row], series: &[Series]) -> Option<Markup> {
    let rows: Vec<&Row> = rows.iter().filter(|row| row.device_name() == device && row.gflops.is_some()).collect();
    let (gflops, gb_per_s) = rows.iter().find_map(|row| Some((row.peak_gflops?, row.peak_gb_per_s?)))?;
    let peak = Peak { flops_per_second: 1e9 * gflops, bytes_per_second: 1e9 * gb_per_s };
    let ridge = gflops / gb_per_s;
    let x = Axis::values("operations for each byte", rows.iter().map(|row| row.intensity()).chain([ridge / 4.0, ridge * 4.0]));
    let roof = |intensity: f64| Point { x: intensity, y: peak.roof(intensity), title: None };
    let (low, high) = x.range();
    let y = Axis::values("FLOP/s", rows.iter().filter_map(|row| row.gflops).map(|gflops| gflops * 1e9).chain([roof(low).y * 1.3, 1e9 * gflops]));
    let of_device = |series: &&Series| series.device == device;
    let line = |series: &Series| {
        let points = rows.iter().filter(|row| series.has(row));
        let point = |row: &&Row| Some(Point { x: row.intensity(), y: 1e9 * row.gflops?, title: Some(hint(row)) });
        Line { class: series.class.clone(), points: thinned(points.filter_map(point).collect()), join: Join::Nothing }
    };
    let mut lines = vec![Line { class: "bound".to_owned(), points: [low, ridge, high].map(roof).into(), join: Join::Roof }];
    lines.extend(series.iter().filter(of_device).map(line));
    let about = format!("at most {:.0} GFLOP/s, {:.0} GB/s", gflops, gb_per_s);
    Some(Plot { title: device.to_owned(), about, x, y, lines }.draw())
}

/// Points at even distances, the first one among them, where there are too many.
fn thinned(points: Vec<Point>) -> Vec<Point> {
    let every = points.len().div_ceil(MAX_POINTS).max(1);
    points.into_iter().step_by(every).collect()
}

/// What shows where the pointer rests on a point.
fn hint(row: &Row) -> String {
    let median = table::digits(row.median_ms);
    let (step, gflops) = (table::digits(row.us_per_step), table::digits(row.gflops));
    let call = table::describe(row);
    format!(
        "{}: {call}\n{median} ms (MAD {}), {step} \u{b5}s a step, {gflops} GFLOP/s\n{}",
        row.device_name(),
        table::digits(row.mad_ms),
        row.schedule
    )
}
