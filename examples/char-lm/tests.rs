//! What needs no device: characters, draws, and what is shown.

use ndarray::{Array1, arr1};

use crate::alphabet::Alphabet;
use crate::evaluate::surprise;
use crate::sampler::Sampler;
use crate::screen::Screen;

fn alphabet() -> Alphabet {
    Alphabet::of(&crate::bundled().unwrap()).unwrap()
}

#[test]
fn a_text_and_its_codes_are_the_same() {
    let text = "If you,\n(at your option)";
    let codes = alphabet().codes(text).unwrap();
    assert_eq!(codes.iter().map(|&code| alphabet().character(code)).collect::<String>(), text);
    let rows = alphabet().one_hot(&codes);
    assert_eq!(rows.dim(), (text.len(), alphabet().len()));
    assert!(rows.rows().into_iter().zip(codes).all(|(row, code)| row.sum() == 1.0 && row[code] == 1.0));
}

#[test]
fn an_unknown_character_is_named_with_its_place() {
    let error = alphabet().codes("ab\u{e9}").unwrap_err().to_string();
    assert!(error.starts_with("character 3: the model does not know `\u{e9}`; it knows line breaks and  !\""), "{error}");
    assert_eq!(alphabet().codes("").unwrap_err().to_string(), "expected at least one character, found none");
}

#[test]
fn draws_follow_the_temperature() {
    let logits = arr1(&[0.0, 1.0, f32::NEG_INFINITY, 0.5]);
    let shares = |temperature| {
        let mut sampler = Sampler::new(temperature, 7, "");
        let mut shares = [0.0; 4];
        (0..10_000).for_each(|_| shares[sampler.draw(logits.view())] += 1e-4);
        shares
    };
    let close = |found: [f64; 4], expected: [f64; 4]| found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 0.02);
    assert!(close(shares(0.0), [0.0, 1.0, 0.0, 0.0]));
    // exp of 0, 1 and 0.5, and of 0, 2 and 1, over their sums
    assert!(close(shares(1.0), [0.186, 0.506, 0.0, 0.307]), "{:?}", shares(1.0));
    assert!(close(shares(0.5), [0.090, 0.665, 0.0, 0.245]), "{:?}", shares(0.5));
}

#[test]
fn seeds_and_prompts_have_draws_of_their_own() {
    let logits = Array1::zeros(64);
    let draws = |seed, prompt| {
        let mut sampler = Sampler::new(1.0, seed, prompt);
        (0..20).map(|_| sampler.draw(logits.view())).collect::<Vec<_>>()
    };
    assert_eq!(draws(1, "The "), draws(1, "The "));
    assert_ne!(draws(1, "The "), draws(2, "The "));
    assert_ne!(draws(1, "The "), draws(1, "If "));
}

#[test]
fn surprise_is_that_of_softmax() {
    // e^0 / (e^0 + e^ln 3) = 1/4
    let logits = arr1(&[0.0, 3_f32.ln()]);
    assert!((surprise(logits.view(), 0) - 4_f64.ln()).abs() < 1e-6);
    let far = arr1(&[1000.0, 0.0]);
    assert_eq!((surprise(far.view(), 0), surprise(far.view(), 1)), (0.0, 1000.0));
}

#[test]
fn texts_are_shown_in_their_order() {
    let mut out = Vec::new();
    let mut screen = Screen::new(&mut out);
    let ended = |texts: &[(usize, &str)]| texts.iter().map(|&(number, text)| (number, text.to_owned())).collect::<Vec<_>>().into_iter();
    screen.show([(0, "a"), (1, "x"), (2, "u")].into_iter(), ended(&[])).unwrap();
    screen.show([(0, "ab"), (2, "uv")].into_iter(), ended(&[(1, "xy\n")])).unwrap();
    screen.show([(2, "uvw")].into_iter(), ended(&[(0, "abc")])).unwrap();
    screen.show([].into_iter(), ended(&[(2, "uvw")])).unwrap();
    let line = "-".repeat(72);
    assert_eq!(String::from_utf8(out).unwrap(), format!("abc\n{line}\nxy\n{line}\nuvw\n{line}\n"));
}
