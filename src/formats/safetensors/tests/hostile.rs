//! Files made to take time: each is read, and written again, in one that grows with its size.

use std::time::{Duration, Instant};

use super::*;
use crate::Precision;

/// What is done here takes a part of this on the slowest machine; work that grows with the square of the file takes a multiple.
const MOST_TIME: Duration = Duration::from_secs(60);

/// LSTMs of a file.
const MANY: usize = 20_000;

fn timely<T>(work: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let made = work();
    assert!(started.elapsed() < MOST_TIME, "it took {:?}", started.elapsed());
    made
}

#[test]
fn many_lstms_take_time_that_grows_with_their_number() {
    let weight = |name: &str, number: usize| (format!("l{number}.{name}"), Dtype::F32, vec![4, 1], vec![0; 16]);
    let entries: Vec<Entry> = (0..MANY).flat_map(|number| ["weight_ih_l0", "weight_hh_l0"].map(|name| weight(name, number))).collect();
    let stages: Vec<String> = (0..MANY).map(|number| format!(r#"{{"lstm":"l{number}"}}"#)).collect();
    let bytes = file_with(&entries, &[("network", &format!("[{}]", stages.join(",")))]);
    let network = timely(|| read(&bytes, None)).expect("a network");
    assert_eq!(network.lstms().count(), MANY);
    let (written, saved) = timely(|| network.to_safetensors(Precision::F32)).expect("a file");
    assert!(saved.complete && saved.stages.len() == MANY);
    assert_eq!(timely(|| read(&written, None)).expect("a network").lstms().count(), MANY);
}

#[test]
fn many_names_that_become_one_take_time_that_grows_with_their_number() {
    // none of these is a word of a path
    let path = |number: usize| number.to_string().bytes().map(|digit| char::from(0xc0 + digit - b'0')).collect::<String>();
    let entries: Vec<Entry> = (0..2 * MANY).map(|number| (format!("{}.weight", path(number)), Dtype::F32, vec![1, 1], vec![0; 4])).collect();
    let lstm = ["weight_ih_l0", "weight_hh_l0"].map(|name| (format!("l.{name}"), Dtype::F32, vec![4, 1], vec![0; 16]));
    let stages: Vec<String> = (0..2 * MANY).map(|number| format!(r#"{{"linear":"{}"}}"#, path(number))).collect();
    let network = format!(r#"[{{"lstm":"l"}},{}]"#, stages.join(","));
    let network = timely(|| read(&file_with(&[&lstm[..], &entries].concat(), &[("network", &network)]), None)).expect("a network");
    let (_, saved) = timely(|| network.to_safetensors(Precision::F32)).expect("a file");
    assert_eq!((saved.stages.len(), saved.stages[1].name.as_str(), saved.stages[2].name.as_str()), (2 * MANY + 1, "linear", "linear_2"));
}
