//! What commands say: data on stdout, talk and progress on stderr.

use std::borrow::Cow;
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::time::Duration;

pub(super) use cellgate::measure::seconds_for_people as seconds;
use cellgate::{DeviceInfo, DeviceKind, GraphicsBackend, ScheduleUse, Selection, Session};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::Result;

/// The text with what a terminal takes for a command written out, as in JSON: names and notes come from files.
fn visible(text: &str) -> Cow<'_, str> {
    let is_command = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if !text.contains(is_command) {
        return Cow::Borrowed(text);
    }
    text.chars().map(|c| if is_command(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() }).collect()
}

/// Writes data to stdout, with a line break after it.
pub(super) fn print(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(visible(text).as_bytes()).and_then(|()| stdout.write_all(b"\n")).and_then(|()| stdout.flush()).map_err(stdout_error)
}

/// Writes a part of a text to stdout, where it appears at once.
pub(super) fn stream(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(visible(text).as_bytes()).and_then(|()| stdout.flush()).map_err(stdout_error)
}

/// A reader that has gone stays an [`io::Error`], so that it can be told from what is wrong.
fn stdout_error(error: io::Error) -> Box<dyn std::error::Error> {
    if error.kind() == ErrorKind::BrokenPipe { error.into() } else { format!("stdout: cannot write: {error}").into() }
}

/// Writes a JSON document to stdout. Numbers that JSON does not have, NaN and infinity, become `null`.
pub(super) fn print_json(document: &impl Serialize) -> Result<()> {
    print(&serde_json::to_string_pretty(document)?)
}

/// Writes a line of talk to stderr; a stderr that is closed is not worth an error.
pub(super) fn say(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", visible(text));
}

/// Finds out before the run whether `file` could be written after it; leaves nothing behind. Only folders on the way to `made` may be missing:
/// they are made after the run.
pub(super) fn check_writable(file: &Path, made: Option<&Path>) -> Result<()> {
    let refused = |why: &dyn std::fmt::Display| Err(format!("{}: cannot write: {why}", file.display()).into());
    match fs::metadata(file) {
        Ok(found) if found.is_dir() => return refused(&"it is a folder"),
        // a pipe or a device takes what comes
        Ok(found) if !found.is_file() => return Ok(()),
        Err(error) if error.kind() != ErrorKind::NotFound => return refused(&error),
        _ => {}
    }
    let here = |path| if path == Path::new("") { Path::new(".") } else { path };
    let parent = file.parent().unwrap_or(Path::new(""));
    if !made.is_some_and(|made| made.starts_with(parent)) && !here(parent).exists() {
        return refused(&format!("there is no folder {}", parent.display()));
    }
    // A link that leads nowhere is there, and no folder can be made in its place.
    let Some(existing) = parent.ancestors().map(here).find(|ancestor| fs::symlink_metadata(ancestor).is_ok()) else {
        return refused(&"no folder above it exists");
    };
    let mut probe = OsString::from(".cellgate-");
    probe.push(std::process::id().to_string());
    let probe = existing.join(probe);
    match OpenOptions::new().write(true).create_new(true).open(&probe).and_then(|_| fs::remove_file(&probe)) {
        Ok(()) => Ok(()),
        Err(error) => refused(&error),
    }
}

/// A device in a JSON document, under the names that `bench` has.
#[derive(Debug, Serialize)]
pub(super) struct DeviceFields {
    device: DeviceKind,
    adapter: String,
    driver: String,
    backend: Option<GraphicsBackend>,
    reason: String,
}

impl DeviceFields {
    pub(super) fn of(selection: &Selection) -> Self {
        let Selection { device, reason } = selection;
        Self { device: device.kind, adapter: device.name.clone(), driver: device.driver.clone(), backend: device.backend, reason: reason.clone() }
    }
}

/// What a session ran, in a JSON document.
#[derive(Debug, Serialize)]
pub(super) struct ScheduleFields {
    /// of all LSTMs, each once
    schedule: String,
    schedules: Vec<ScheduleUse>,
}

impl ScheduleFields {
    /// The name of the side that the first LSTM ran on.
    pub(super) fn first_side<'a>(&self, device: &'a DeviceInfo) -> &'a str {
        side_name(device, self.schedules.first().map_or(device.kind, |used| used.device))
    }

    /// Says on stderr what ran and why, and what of the records could not be used.
    pub(super) fn say(session: &Session) -> Self {
        let (schedules, device) = (session.schedules().to_vec(), &session.engine().describe().device);
        for ScheduleUse { node, rows, seq_len, device: side, schedule, why } in &schedules {
            let steps = seq_len.map_or_else(String::new, |steps| format!(", {steps} steps"));
            let of = if schedules.len() > 1 { format!(" of `{node}`, {rows} rows{steps}") } else { String::new() };
            say(&format!("schedule{of}: {schedule}, on {} ({why})", side_name(device, *side)));
        }
        say_notes(session.notes());
        let mut names: Vec<&str> = schedules.iter().map(|used| used.schedule.as_str()).collect();
        names.dedup();
        Self { schedule: names.join("; "), schedules }
    }
}

/// The name of the side that something ran on, of an engine whose first choice is `device`.
pub(super) fn side_name(device: &DeviceInfo, side: DeviceKind) -> &str {
    if side == device.kind { &device.name } else { "the CPU" }
}

/// Says on stderr what somebody should know.
pub(super) fn say_notes(notes: &[String]) {
    notes.iter().for_each(|note| say(&format!("note: {note}")));
}

/// A spinner on stderr while something takes long; nothing where stderr is no terminal. Gone when dropped.
pub(super) struct Spinner(ProgressBar);

impl Spinner {
    pub(super) fn new(text: impl Into<String>) -> Self {
        let bar = ProgressBar::new_spinner().with_message(text.into());
        bar.enable_steady_tick(Duration::from_millis(100));
        Self(bar)
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// A bar on stderr for `len` steps of a known number; nothing where stderr is no terminal.
pub(super) fn progress_bar(len: usize) -> ProgressBar {
    ProgressBar::new(len as u64).with_style(ProgressStyle::default_bar())
}

/// A bar on stderr for work of an expected length, with the time that is left; nothing where stderr is no terminal.
pub(super) fn timed_bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:24} {percent:>3} %, {eta} left  {wide_msg}").expect("the template is well formed");
    ProgressBar::new(0).with_style(style)
}

/// A duration in milliseconds.
pub(super) fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// A number of bytes for people: `1.5 MiB`.
pub(super) fn bytes(bytes: u64) -> String {
    scaled(bytes, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"])
}

/// A number of operations for people: `2.10 GFLOP`.
pub(super) fn flops(flops: u64) -> String {
    scaled(flops, 1000.0, &["FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP", "EFLOP"])
}

#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
fn scaled(value: u64, step: f64, units: &[&str]) -> String {
    let mut scaled = value as f64;
    let mut place = 0;
    while scaled >= step && place + 1 < units.len() {
        (scaled, place) = (scaled / step, place + 1);
    }
    if place == 0 { format!("{value} {}", units[0]) } else { format!("{scaled:.2} {}", units[place]) }
}

/// Rows as columns of equal width.
pub(super) fn table(rows: &[impl AsRef<[String]>], indent: &str) -> String {
    let width = |column: usize| rows.iter().map(|row| row.as_ref()[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows.first().map_or(0, |row| row.as_ref().len())).map(width).collect();
    let lines = rows.iter().map(|row| {
        let cells: Vec<String> = row.as_ref().iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}")).collect();
        format!("{indent}{}", cells.join("  ")).trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_readable() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.50 KiB");
        assert_eq!(bytes(u64::MAX), "16.00 EiB");
        assert_eq!(flops(2_100_000_000), "2.10 GFLOP");
    }

    #[test]
    fn a_file_gives_a_terminal_no_commands() {
        assert!(matches!(visible("a\n\tb \u{e9}"), Cow::Borrowed("a\n\tb \u{e9}")));
        assert_eq!(visible("`\u{1b}[2J\r\u{7}\u{9b}1A`"), r"`\u001b[2J\u000d\u0007\u009b1A`");
    }

    #[test]
    fn columns_line_up() {
        let rows = [["a".to_owned(), "1".to_owned()], ["bcd".to_owned(), "22".to_owned()]];
        assert_eq!(table(&rows, "  "), "  a    1\n  bcd  22");
    }
}
