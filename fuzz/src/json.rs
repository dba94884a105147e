//! JSON as a tree that keeps what readers of it lose: the order of keys, keys that come twice, numbers as they are written.

use std::fmt;

use crate::rng::Rng;

/// Values within values; what lies deeper is no JSON here.
const MAX_DEPTH: usize = 64;

/// Numbers beside those of [`Rng::number`].
const ODD_NUMBERS: [&str; 12] =
    ["0.5", "-0.0", "1e-5", "1e-46", "1e39", "-1e39", "1e308", "1e999", "18446744073709551615", "18446744073709551616", "1.0", "3e0"];

#[derive(Clone, Debug)]
pub(crate) enum Json {
    /// a number, a truth value, or null
    Plain(String),
    Text(String),
    List(Vec<Self>),
    Object(Vec<(String, Self)>),
}

impl Json {
    /// The value that `text` is; `None` where it is none.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut rest = text;
        let value = value(&mut rest, 0)?;
        rest.trim_start().is_empty().then_some(value)
    }

    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    pub(crate) fn plain(value: impl fmt::Display) -> Self {
        Self::Plain(value.to_string())
    }

    /// Of an object, what is called `key` first.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        let Self::Object(entries) = self else { return None };
        entries.iter().find(|(known, _)| known == key).map(|(_, value)| value)
    }

    /// The number that this is.
    pub(crate) fn number(&self) -> Option<usize> {
        if let Self::Plain(text) = self { text.parse().ok() } else { None }
    }

    /// Calls `visit` with this value and all within it.
    fn each(&self, visit: &mut impl FnMut(&Self)) {
        visit(self);
        match self {
            Self::List(items) => items.iter().for_each(|item| item.each(visit)),
            Self::Object(entries) => entries.iter().for_each(|(_, value)| value.each(visit)),
            Self::Plain(_) | Self::Text(_) => {}
        }
    }

    /// Value `place` of those that [`Json::each`] visits.
    fn nth(&mut self, place: &mut usize) -> Option<&mut Self> {
        if *place == 0 {
            return Some(self);
        }
        *place -= 1;
        match self {
            Self::List(items) => items.iter_mut().find_map(|item| item.nth(place)),
            Self::Object(entries) => entries.iter_mut().find_map(|(_, value)| value.nth(place)),
            Self::Plain(_) | Self::Text(_) => None,
        }
    }

    /// Any value of the tree, with an equal chance for each.
    fn any(&mut self, rng: &mut Rng) -> &mut Self {
        let mut count = 0;
        self.each(&mut |_| count += 1);
        self.nth(&mut rng.below(count)).expect("there are as many")
    }

    /// Changes one value of the tree. Keys and texts become others of the tree, or some of `words`.
    pub(crate) fn mutate(&mut self, words: &[&str], rng: &mut Rng) {
        let mut known: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        self.each(&mut |value| match value {
            Self::Text(text) => known.push(text.clone()),
            Self::Object(entries) => known.extend(entries.iter().map(|(key, _)| key.clone())),
            Self::Plain(_) | Self::List(_) => {}
        });
        let scion = self.any(rng).clone();
        let value = self.any(rng);
        match rng.below(16) {
            0 => *value = scion,
            1 => *value = plain(rng),
            2 => *value = Self::Text(word(&known, rng)),
            _ => match value {
                Self::Plain(_) => *value = plain(rng),
                Self::Text(text) => change_text(text, &known, words, rng),
                Self::List(items) if !items.is_empty() => change_items(items, rng),
                Self::Object(entries) if !entries.is_empty() => {
                    let place = rng.below(entries.len());
                    match rng.below(8) {
                        0 => entries[place].0 = word(&known, rng),
                        1 => entries.push((word(&known, rng), scion)),
                        2 => entries.push((word(&known, rng), plain(rng))),
                        3 => {
                            let other = entries[rng.below(entries.len())].1.clone();
                            entries[place].1 = other;
                        }
                        _ => change_items(entries, rng),
                    }
                }
                Self::List(items) => items.push(scion),
                Self::Object(entries) => entries.push((word(&known, rng), scion)),
            },
        }
    }
}

/// Small numbers most of the time: those are what sizes are.
fn plain(rng: &mut Rng) -> Json {
    match rng.below(8) {
        0 => Json::plain(rng.below(2) == 0),
        1 => Json::plain("null"),
        2 => Json::plain(ODD_NUMBERS[rng.below(ODD_NUMBERS.len())]),
        3 | 4 => Json::plain(rng.number()),
        _ => Json::plain(rng.below(9)),
    }
}

fn word(known: &[String], rng: &mut Rng) -> String {
    rng.pick(known).cloned().unwrap_or_default()
}

/// A text becomes another, or loses or gains some; one that is JSON itself changes as a tree.
fn change_text(text: &mut String, known: &[String], words: &[&str], rng: &mut Rng) {
    if let Some(mut inner @ (Json::List(_) | Json::Object(_))) = Json::parse(text)
        && rng.below(8) != 0
    {
        inner.mutate(words, rng);
        *text = inner.to_string();
        return;
    }
    let place = text.floor_char_boundary(rng.below(text.len() + 1));
    match rng.below(4) {
        0 => text.truncate(place),
        1 => drop(text.drain(..place)),
        2 => text.insert(place, ['.', '/', '0', '\0', '"', '\u{e9}', '\u{1b}', '_'][rng.below(8)]),
        _ => *text = word(known, rng),
    }
}

/// An item goes, comes twice, or changes its place.
fn change_items<T: Clone>(items: &mut Vec<T>, rng: &mut Rng) {
    let (place, other) = (rng.below(items.len()), rng.below(items.len()));
    match rng.below(4) {
        0 => items.swap(place, other),
        1 => items.insert(other, items[place].clone()),
        _ => drop(items.remove(place)),
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        match self {
            Self::Plain(text) => f.write_str(text),
            Self::Text(text) => f.write_str(&quoted(text)),
            Self::List(items) => {
                let items: Vec<String> = items.iter().map(Self::to_string).collect();
                write!(f, "[{}]", items.join(","))
            }
            Self::Object(entries) => {
                let entries: Vec<String> = entries.iter().map(|(key, value)| format!("{}:{value}", quoted(key))).collect();
                write!(f, "{{{}}}", entries.join(","))
            }
        }
    }
}

fn value(rest: &mut &str, depth: usize) -> Option<Json> {
    *rest = rest.trim_start();
    match rest.as_bytes().first()? {
        _ if depth > MAX_DEPTH => None,
        b'"' => string(rest).map(Json::Text),
        b'[' => items(rest, ']', |rest| value(rest, depth + 1)).map(Json::List),
        b'{' => {
            let entry = |rest: &mut &str| {
                let key = string(rest)?;
                *rest = rest.trim_start().strip_prefix(':')?;
                Some((key, value(rest, depth + 1)?))
            };
            items(rest, '}', entry).map(Json::Object)
        }
        _ => {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && !"+-.".contains(c)).unwrap_or(rest.len());
            let (plain, behind) = rest.split_at(end);
            *rest = behind;
            (!plain.is_empty()).then(|| Json::plain(plain))
        }
    }
}

/// What stands between two brackets, with commas between; the first bracket was looked at.
fn items<T>(rest: &mut &str, close: char, item: impl Fn(&mut &str) -> Option<T>) -> Option<Vec<T>> {
    let mut items = Vec::new();
    *rest = rest[1..].trim_start();
    if let Some(behind) = rest.strip_prefix(close) {
        *rest = behind;
        return Some(items);
    }
    loop {
        *rest = rest.trim_start();
        items.push(item(rest)?);
        *rest = rest.trim_start();
        if let Some(behind) = rest.strip_prefix(close) {
            *rest = behind;
            return Some(items);
        }
        *rest = rest.strip_prefix(',')?;
    }
}

fn string(rest: &mut &str) -> Option<String> {
    let mut escaped = true;
    let end = rest.find(|c| {
        // the first quote opens
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    })?;
    let (quoted, behind) = rest.split_at(end + 1);
    *rest = behind;
    serde_json::from_str(quoted).ok()
}
