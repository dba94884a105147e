//! Mutations of an npy file as its dictionary and data.

use crate::rng::Rng;

const MAGIC: &[u8] = b"\x93NUMPY";

/// Types of elements, with their bytes.
const TYPES: [(&str, usize); 16] = [
    ("<f4", 4),
    ("<f8", 8),
    ("<f2", 2),
    ("<i4", 4),
    ("<i8", 8),
    ("|i1", 1),
    ("|u1", 1),
    ("|b1", 1),
    ("<u1", 1),
    ("f4", 4),
    ("=f4", 4),
    ("<u2", 2),
    (">f4", 4),
    (">u1", 1),
    ("|O", 8),
    ("<f16", 16),
];

/// Pieces of dictionaries.
const PIECES: [&str; 24] = [
    "'",
    "\"",
    "\\",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    " ",
    "\n",
    "#",
    "-1",
    "1L",
    "0x10",
    "9999999999999999999999",
    "True",
    "None",
    "b''",
    "'shape': (2,), ",
    "u'descr': '<f4', ",
    "1e3",
];

/// Changes `bytes` in up to four places, or makes another file; `None` where they become too long.
pub fn mutate(bytes: &[u8], max_size: usize, seed: u32) -> Option<Vec<u8>> {
    let mut rng = Rng::new(seed);
    let made = match parts(bytes).filter(|_| rng.below(4) != 0) {
        Some((version, text, data)) => {
            let (mut text, mut data) = (text.to_vec(), data.to_vec());
            for _ in 0..=rng.below(4) {
                change(&mut text, &mut data, &mut rng);
            }
            file(if rng.below(8) == 0 { rng.below(5) as u8 } else { version }, &text, &data)
        }
        None => make(max_size, &mut rng),
    };
    (made.len() <= max_size).then_some(made)
}

/// The version, the dictionary and the data of a file.
fn parts(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let ([version, _], rest) = rest.split_first_chunk()?;
    let (len, rest) = if *version == 1 {
        let (len, rest) = rest.split_first_chunk()?;
        (usize::from(u16::from_le_bytes(*len)), rest)
    } else {
        let (len, rest) = rest.split_first_chunk()?;
        (usize::try_from(u32::from_le_bytes(*len)).ok()?, rest)
    };
    let (text, data) = rest.split_at_checked(len)?;
    Some((*version, text, data))
}

fn file(version: u8, text: &[u8], data: &[u8]) -> Vec<u8> {
    let len = (text.len() as u32).to_le_bytes();
    [MAGIC, &[version, 0], &len[..if version == 1 { 2 } else { 4 }], text, data].concat()
}

fn change(text: &mut Vec<u8>, data: &mut Vec<u8>, rng: &mut Rng) {
    let place = rng.below(text.len() + 1);
    match rng.below(8) {
        0 if place < text.len() => drop(text.remove(place)),
        1 | 2 => drop(text.splice(place..place, PIECES[rng.below(PIECES.len())].bytes())),
        3 => drop(text.splice(place..place, rng.number().to_string().into_bytes())),
        4 => drop(text.drain(place..text.len().min(place + rng.below(8)))),
        5 if !data.is_empty() => {
            let place = rng.below(data.len());
            data[place] = rng.next() as u8;
        }
        6 => data.truncate(rng.below(data.len() + 1)),
        _ => data.extend(rng.number().to_le_bytes()),
    }
}

/// A file of any type and shape, with as much data as these ask for where that is possible.
fn make(max_size: usize, rng: &mut Rng) -> Vec<u8> {
    let (descr, bytes) = TYPES[rng.below(TYPES.len())];
    let axes = rng.below(5);
    let shape: Vec<i64> = (0..axes).map(|_| if rng.below(8) == 0 { rng.number() } else { rng.below(5) as i64 }).collect();
    let needed = shape.iter().try_fold(bytes, |needed, &axis| needed.checked_mul(usize::try_from(axis).ok()?));
    let needed = needed.filter(|&needed| needed <= max_size).unwrap_or(bytes);
    let data: Vec<u8> = (0..needed).map(|_| rng.next() as u8).collect();
    let shape: String = shape.iter().map(|axis| format!("{axis}, ")).collect();
    let order = ["False", "True"][rng.below(2)];
    file(1 + rng.below(3) as u8, format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': ({shape}), }}\n").as_bytes(), &data)
}
