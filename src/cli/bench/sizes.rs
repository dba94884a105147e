//! Lists of sizes on the command line: `1,32,256`, `1-8`, `64-512+64`, `1-1024*4`, and any of them with commas between.

use std::str::FromStr;

/// More values than this are a slip.
const MOST: usize = 1000;

/// Sizes in the order in which they were given, each once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sizes(pub(super) Vec<usize>);

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut sizes = Vec::new();
        for part in text.split(',') {
            for size in range(part.trim())? {
                if sizes.len() == MOST {
                    return Err(format!("expected at most {MOST} sizes"));
                }
                if !sizes.contains(&size) {
                    sizes.push(size);
                }
            }
        }
        Ok(Self(sizes))
    }
}

/// How a range goes on.
#[derive(Clone, Copy)]
enum Step {
    Plus(usize),
    Times(usize),
}

/// The sizes of one part of a list; lazily, as there may be too many.
fn range(text: &str) -> Result<impl Iterator<Item = usize>, String> {
    let (first, rest) = text.split_once('-').unwrap_or((text, text));
    let (last, step) = match (rest.split_once('*'), rest.split_once('+')) {
        (Some((last, factor)), _) => (last, Step::Times(size(factor)?)),
        (None, Some((last, step))) => (last, Step::Plus(size(step)?)),
        (None, None) => (rest, Step::Plus(1)),
    };
    let (first, last) = (size(first)?, size(last)?);
    if last < first {
        return Err(format!("`{text}`: expected a range that ends at {first} or above, found {last}"));
    }
    if let Step::Times(1) = step {
        return Err(format!("`{text}`: expected a factor of at least 2, found 1"));
    }
    let next = move |size: &usize| {
        let next = match step {
            Step::Plus(step) => size.checked_add(step),
            Step::Times(factor) => size.checked_mul(factor),
        };
        next.filter(|next| *next <= last)
    };
    Ok(std::iter::successors(Some(first), next))
}

fn size(text: &str) -> Result<usize, String> {
    let rule = "expected a number from 1, or a range such as 1-8, 64-512+64 or 1-1024*4";
    text.trim().parse().ok().filter(|&size| size > 0).ok_or_else(|| format!("{rule}, found `{text}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_ranges() {
        let sizes = |text: &str| text.parse().map(|Sizes(sizes)| sizes);
        for (text, expected) in [
            ("7", &[7][..]),
            ("1,32,256", &[1, 32, 256]),
            ("1-4", &[1, 2, 3, 4]),
            ("64-256+64", &[64, 128, 192, 256]),
            ("64-250+64", &[64, 128, 192]),
            ("1-1024*4", &[1, 4, 16, 64, 256, 1024]),
            ("3-3*2", &[3]),
            ("8, 1-4*2, 8", &[8, 1, 2, 4]),
        ] {
            assert_eq!(sizes(text).as_deref(), Ok(expected), "{text}");
        }
        for text in ["", "0", "1,", "x", "-1", "4-1", "1-8*1", "1-8*0", "1-8+0", "1-", "1-8*", "1-99999", "99999999999999999999", "1.5"] {
            assert!(sizes(text).is_err(), "{text}");
        }
        // the end of the numbers is the end of the range
        assert_eq!(sizes(&format!("1-{}*1000000000000", usize::MAX)).map(|sizes| sizes.len()), Ok(2));
    }
}
