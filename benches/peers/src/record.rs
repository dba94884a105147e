//! What is printed and written: a table line a row, a JSON line a peer, row and setting.

use std::process::Command;

use cellgate::DeviceInfo;
use cellgate::measure::Summary;
use serde::Serialize;

use crate::contest::Outcome;
use crate::row::Row;

/// A line of the JSON file. `torch_and_ort.py` writes the same fields.
#[derive(Serialize)]
pub struct Record {
    peer: &'static str,
    version: String,
    setting: String,
    device: &'static str,
    adapter: String,
    driver: String,
    backend: Option<String>,
    #[serde(flatten)]
    row: Row,
    n: usize,
    median_ms: Option<f64>,
    min_ms: Option<f64>,
    mad_ms: Option<f64>,
    max_abs_err: f64,
    verified: bool,
    failure: Option<String>,
}

impl Record {
    pub fn new(info: &DeviceInfo, row: Row, outcome: &Outcome) -> Self {
        let summary = outcome.summary();
        let ms = |quantity: fn(&Summary) -> f64| summary.as_ref().map(|summary| quantity(summary) * 1e3);
        Self {
            peer: outcome.name,
            version: version(outcome.name),
            setting: outcome.setting.clone(),
            device: "gpu",
            adapter: info.name.clone(),
            driver: info.driver.clone(),
            backend: info.backend.map(|backend| backend.to_string()),
            row,
            n: summary.map_or(0, |summary| summary.n),
            median_ms: ms(|summary| summary.median),
            min_ms: ms(|summary| summary.min),
            mad_ms: ms(|summary| summary.mad),
            max_abs_err: outcome.max_abs_err,
            verified: outcome.failure.is_none(),
            failure: outcome.failure.clone(),
        }
    }
}

/// The version of a crate in the lock file that this program was built with; cellgate's with its commit.
fn version(package: &str) -> String {
    let mut lines = include_str!("../Cargo.lock").lines().skip_while(|line| *line != format!("name = \"{package}\""));
    let version = lines.nth(1).and_then(|line| line.split('"').nth(1)).unwrap_or("unknown");
    let describe = || {
        let output = Command::new("git").args(["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty", "--exclude=*"]).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    match (package, describe()) {
        ("cellgate", Some(commit)) => format!("{version} ({commit})"),
        _ => version.to_owned(),
    }
}

pub const TABLE_HEAD: &str = "\
| adapter | L | D | N | T | I | H | n | cellgate ms | MAD | error | burn ms | MAD | error | setting | burn / cellgate |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|";

/// cellgate beside the setting of burn with the smallest median; `failed` where there is nothing to say.
pub fn table_line(info: &DeviceInfo, row: Row, outcomes: &[Outcome]) -> String {
    let Row { layers, directions, batch, seq_len, input_size, hidden_size } = row;
    let best = |name: &str| {
        let timed = outcomes.iter().filter(|outcome| outcome.name == name).filter_map(|outcome| Some((outcome, outcome.summary()?)));
        timed.min_by(|(_, a), (_, b)| a.median.total_cmp(&b.median))
    };
    let (cellgate, burn) = (best("cellgate"), best("burn"));
    let cells = |found: &Option<(&Outcome, Summary)>| match found {
        Some((outcome, summary)) => format!("{:.2} | {:.2} | {:.1e}", summary.median * 1e3, summary.mad * 1e3, outcome.max_abs_err),
        None => "failed | |".to_owned(),
    };
    let ratio = match (&cellgate, &burn) {
        (Some((_, cellgate)), Some((_, burn))) => format!("{:.1}", burn.median / cellgate.median),
        _ => String::new(),
    };
    format!(
        "| {info} | {layers} | {directions} | {batch} | {seq_len} | {input_size} | {hidden_size} | {} | {} | {} | {} | {ratio} |",
        outcomes.iter().filter_map(Outcome::summary).map(|summary| summary.n).min().unwrap_or(0),
        cells(&cellgate),
        cells(&burn),
        burn.as_ref().map_or("", |(outcome, _)| &outcome.setting),
    )
}
