//! How good the translations of the test set are, category by category, beside PyTorch's.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

use serde::Deserialize;

use crate::Result;

/// A line of `test.tsv`: category, English, German.
pub(crate) struct Pair {
    pub(crate) category: String,
    pub(crate) english: String,
    pub(crate) german: String,
}

/// What PyTorch makes of the test set: `check.json`.
#[derive(Deserialize)]
pub(crate) struct Check {
    /// by how much the logit of every piece that it wrote leads, at least
    pub(crate) smallest_margin: f64,
    /// exact translations by category
    pub(crate) exact: BTreeMap<String, usize>,
    /// by English text, translations that are not exact
    others: BTreeMap<String, String>,
}

impl Check {
    /// The translation that PyTorch writes, right or wrong.
    pub(crate) fn translation<'a>(&'a self, pair: &'a Pair) -> &'a str {
        self.others.get(&pair.english).unwrap_or(&pair.german)
    }
}

/// The pairs of `test.tsv` and what `check.json` says of them.
pub(crate) fn open(folder: &Path) -> Result<(Vec<Pair>, Check)> {
    let read = |name: &str| fs::read_to_string(folder.join(name)).map_err(|error| format!("{}: {error}", folder.join(name).display()));
    let check = serde_json::from_str(&read("check.json")?).map_err(|error| format!("check.json: {error}"))?;
    let pair = |(number, line): (usize, &str)| {
        let mut fields = line.split('\t').map(str::to_owned);
        match (fields.next(), fields.next(), fields.next(), fields.next()) {
            (Some(category), Some(english), Some(german), None) => Ok(Pair { category, english, german }),
            _ => Err(format!("test.tsv, line {}: expected category, English and German, found `{line}`", number + 1)),
        }
    };
    let pairs = read("test.tsv")?.lines().enumerate().map(pair).collect::<std::result::Result<_, _>>()?;
    Ok((pairs, check))
}

/// Exact translations of a category.
pub(crate) struct Row {
    pub(crate) category: String,
    pub(crate) sentences: usize,
    pub(crate) exact: usize,
    pub(crate) exact_in_pytorch: usize,
}

/// A row for each category, in the order of the test set, and one for all.
pub(crate) struct Score(pub(crate) Vec<Row>);

impl Score {
    /// Of `translations`, in the order of `pairs`.
    pub(crate) fn of(pairs: &[Pair], translations: &[String], check: &Check) -> Self {
        let mut rows: Vec<Row> = Vec::new();
        for (pair, translation) in pairs.iter().zip(translations) {
            if rows.last().is_none_or(|row| row.category != pair.category) {
                let exact_in_pytorch = check.exact.get(&pair.category).copied().unwrap_or(0);
                rows.push(Row { category: pair.category.clone(), sentences: 0, exact: 0, exact_in_pytorch });
            }
            if let Some(row) = rows.last_mut() {
                row.sentences += 1;
                row.exact += usize::from(*translation == pair.german);
            }
        }
        let sum = |count: fn(&Row) -> usize| rows.iter().map(count).sum();
        let all = Row {
            category: "all".to_owned(),
            sentences: sum(|row| row.sentences),
            exact: sum(|row| row.exact),
            exact_in_pytorch: sum(|row| row.exact_in_pytorch),
        };
        rows.push(all);
        Self(rows)
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<10} {:>9} {:>16} {:>16}", "exact", "sentences", "cellgate", "PyTorch")?;
        for Row { category, sentences, exact, exact_in_pytorch } in &self.0 {
            let share = |count: usize| format!("{count} ({:.1} %)", 100.0 * count as f64 / *sentences as f64);
            writeln!(f, "{category:<10} {sentences:>9} {:>16} {:>16}", share(*exact), share(*exact_in_pytorch))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_translations_are_counted_by_category() {
        let pair = |category: &str, german: &str| Pair { category: category.to_owned(), english: String::new(), german: german.to_owned() };
        let pairs = [pair("numbers", "eins"), pair("numbers", "zwei"), pair("dates", "heute")];
        let check = Check { smallest_margin: 1.0, exact: BTreeMap::from([("numbers".to_owned(), 2)]), others: BTreeMap::new() };
        let Score(rows) = Score::of(&pairs, &["eins", "drei", "heute"].map(str::to_owned), &check);
        let counts: Vec<_> = rows.iter().map(|row| (row.category.as_str(), row.exact, row.sentences, row.exact_in_pytorch)).collect();
        assert_eq!(counts, [("numbers", 1, 2, 2), ("dates", 1, 1, 0), ("all", 2, 3, 2)]);
    }
}
