//! The rows of a run, or of earlier ones, and the files that they go to.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use cellgate::formats::replace_file;

use super::row::Row;
use super::{Args, report, table};
use crate::cli::Result;
use crate::cli::output::{self, check_writable};

/// What the table of a page in Markdown stands between.
const BEGIN: &str = "<!-- BEGIN bench";
const END: &str = "<!-- END bench -->";

/// Rows, and where each goes as it comes.
pub(super) struct Record {
    rows: Vec<Row>,
    lines: Lines,
}

/// JSON, an object a line, as rows come: those of an interrupted run are there.
enum Lines {
    Nowhere,
    Stdout,
    /// made with the first row: what fails before leaves an earlier file as it is
    Planned(PathBuf),
    File(PathBuf, File),
}

impl Record {
    /// Checks that all files that are asked for could be written.
    pub(super) fn new(args: &Args) -> Result<Self> {
        let stdout = Path::new("-");
        let mut files: Vec<&PathBuf> = Vec::new();
        for file in [&args.json, &args.csv, &args.report, &args.splice].into_iter().flatten() {
            if args.json.as_deref() == Some(stdout) && file == stdout {
                continue;
            }
            if file == stdout {
                return Err("-: only --json goes to stdout".into());
            }
            if files.contains(&file) {
                return Err(format!("{}: expected a file of its own for each output, found it twice", file.display()).into());
            }
            check_writable(file, None)?;
            files.push(file);
        }
        if let Some(page) = &args.splice {
            spliced(page, "")?;
        }
        let lines = match &args.json {
            None => Lines::Nowhere,
            Some(file) if file == stdout => Lines::Stdout,
            Some(file) => Lines::Planned(file.clone()),
        };
        Ok(Self { rows: Vec::new(), lines })
    }

    pub(super) fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Adds a row, and writes its line.
    pub(super) fn add(&mut self, row: Row) -> Result<()> {
        if let Some(why) = &row.failure {
            output::say(&format!("note: {}, {}: {why}", row.device_name(), table::describe(&row)));
        }
        if let Lines::Planned(path) = &self.lines {
            let file = File::create(path).map_err(|error| format!("{}: cannot write: {error}", path.display()))?;
            self.lines = Lines::File(path.clone(), file);
        }
        match &mut self.lines {
            Lines::Nowhere | Lines::Planned(_) => {}
            Lines::Stdout => output::print(&serde_json::to_string(&row)?)?,
            Lines::File(path, file) => {
                let line = serde_json::to_string(&row)? + "\n";
                file.write_all(line.as_bytes()).map_err(|error| format!("{}: cannot write: {error}", path.display()))?;
            }
        }
        self.rows.push(row);
        Ok(())
    }

    /// Adds the rows of an earlier run, `named` after its file where there are several.
    pub(super) fn read(&mut self, file: &Path, named: bool) -> Result<()> {
        let path = file.display();
        let text = fs::read_to_string(file).map_err(|error| format!("{path}: cannot read: {error}"))?;
        let record = file.file_stem().filter(|_| named).map(|stem| stem.to_string_lossy().into_owned());
        let known = self.rows.len();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let wrong = |what: &str| format!("{path}, line {}: expected a row of `bench --json`: {what}", number + 1);
            let row: Row = serde_json::from_str(line).map_err(|error| wrong(&error.to_string()))?;
            if [row.layers, row.directions, row.input_size, row.hidden_size, row.batch, row.seq_len].contains(&0) {
                return Err(wrong("a size is 0").into());
            }
            self.rows.push(Row { record: record.clone(), ..row });
        }
        if self.rows.len() == known {
            return Err(format!("{path}: expected rows of `bench --json`, a JSON object a line, found none").into());
        }
        Ok(())
    }

    /// Writes what was asked for beside the lines; without those on stdout, the table goes there.
    pub(super) fn finish(&self, args: &Args) -> Result<()> {
        if let Some(file) = &args.csv {
            replace_file(file, &csv(&self.rows)?)?;
        }
        if let Some(file) = &args.report {
            replace_file(file, report::page(&self.rows).as_bytes())?;
        }
        if let Some(page) = &args.splice {
            replace_file(page, spliced(page, &table::markdown(&self.rows))?.as_bytes())?;
        }
        // last: whoever reads stdout may have gone
        if !matches!(self.lines, Lines::Stdout) {
            output::print(&table::text(&self.rows))?;
        }
        Ok(())
    }
}

/// The rows with commas between their values, under the names of the JSON lines.
fn csv(rows: &[Row]) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        writer.serialize(row)?;
    }
    Ok(writer.into_inner().map_err(|error| error.to_string())?)
}

/// The text of `page` with `table` between its markers. The first one may hold more, such as the command that made the table.
fn spliced(page: &Path, table: &str) -> Result<String> {
    let path = page.display();
    let text = fs::read_to_string(page).map_err(|error| format!("{path}: cannot read: {error}"))?;
    splice(&text, table).ok_or_else(|| format!("{path}: expected a line `{BEGIN} ... -->` and after it a line `{END}`").into())
}

fn splice(text: &str, table: &str) -> Option<String> {
    let begin = text.find(BEGIN)?;
    let start = begin + text[begin..].find("-->\n")? + "-->\n".len();
    let end = start + text[start..].find(END)?;
    Some(format!("{}{table}\n{}", &text[..start], &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_markers_changes() {
        let page = "before\n<!-- BEGIN bench: cellgate bench --from x -->\nold\n<!-- END bench -->\nafter\n";
        let new = splice(page, "| new |").unwrap();
        assert_eq!(new, "before\n<!-- BEGIN bench: cellgate bench --from x -->\n| new |\n<!-- END bench -->\nafter\n");
        assert_eq!(splice(&new, "| new |").unwrap(), new);
        for page in ["", "<!-- BEGIN bench -->\n", "<!-- END bench -->\n<!-- BEGIN bench -->\n", "<!-- BEGIN bench\n<!-- END bench -->\n"] {
            assert!(splice(page, "").is_none(), "{page:?}");
        }
    }
}
