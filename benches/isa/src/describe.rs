//! Names for specialisations, made from what sets them apart.

use cellgate::Activation;
use cellgate::gpu::specialise::activation_code;
use naga::{Module, Scalar, ScalarKind, TypeInner};

use crate::Result;
use crate::shipped::Shipped;
use crate::spirv::parse;

const ACTIVATIONS: [&str; 11] =
    ["Sigmoid", "Tanh", "Relu", "Affine", "LeakyRelu", "ThresholdedRelu", "ScaledTanh", "HardSigmoid", "Elu", "Softsign", "Softplus"];

/// A name for each of `all`, such as `rows 4, k lanes 1, ragged`: the counts that differ among those of its kernel, and what else differs
/// from the kernel's first.
pub(crate) fn names(all: &[Shipped]) -> Result<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    for (place, shipped) in all.iter().enumerate() {
        let kernel: Vec<&Shipped> = all.iter().filter(|other| other.kernel == shipped.kernel).collect();
        let module = parse(shipped)?.module;
        let form = Some(shipped.form.clone()).filter(|form| !form.is_empty());
        let mut parts: Vec<String> = form.into_iter().collect();
        parts.extend(shipped.overrides.iter().filter_map(|&(name, value)| part(name, value, &kernel, &module)));
        let activations = activations(shipped);
        if activations != self::activations(kernel[0]) {
            parts.extend(activations);
        }
        let mut text = if parts.is_empty() { "plain".to_owned() } else { parts.join(", ") };
        // what no name tells, such as the parameters of activations
        let same = (0..place).filter(|&other| all[other].kernel == shipped.kernel && names[other].split(" #").next() == Some(&text)).count();
        if same > 0 {
            text.push_str(&format!(" #{}", same + 1));
        }
        names.push(text);
    }
    Ok(names)
}

fn value_of(shipped: &Shipped, name: &str) -> Option<f64> {
    shipped.overrides.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
}

/// What an override says in the name, if anything.
fn part(name: &str, value: f64, kernel: &[&Shipped], module: &Module) -> Option<String> {
    let is_first = value_of(kernel[0], name) == Some(value);
    let words = name.to_lowercase().replace('_', " ");
    if name.ends_with("_0") || name.ends_with("_1") || name == "PER_DIRECTION" {
        return None;
    }
    match kind_of(module, name)? {
        ScalarKind::Bool => (!is_first).then(|| if value == 0.0 { format!("no {}", words.trim_start_matches("has ")) } else { words }),
        ScalarKind::Float => (!is_first).then_some(words),
        _ => kernel.iter().any(|other| value_of(other, name) != Some(value)).then(|| format!("{words} {value}")),
    }
}

/// The activations of gates, candidate and output, or the one that all of them are; of both directions where they differ.
fn activations(shipped: &Shipped) -> Option<String> {
    let name_of = |code: f64| ACTIVATIONS.into_iter().find(|name| Activation::from_onnx(name).map(activation_code).map(f64::from) == Some(code));
    let of = |direction: u32| {
        let activation = |which: &str| name_of(value_of(shipped, &format!("{which}_{direction}"))?);
        let all = [activation("GATE")?, activation("CANDIDATE")?, activation("OUTPUT")?];
        Some(if all == [all[0]; 3] { all[0].to_owned() } else { all.join("/") })
    };
    let first = of(0)?;
    if value_of(shipped, "PER_DIRECTION") == Some(1.0) { Some(format!("{first} and {}", of(1)?)) } else { Some(first) }
}

fn kind_of(module: &Module, name: &str) -> Option<ScalarKind> {
    let (_, found) = module.overrides.iter().find(|(_, known)| known.name.as_deref() == Some(name))?;
    match module.types[found.ty].inner {
        TypeInner::Scalar(Scalar { kind, .. }) => Some(kind),
        _ => None,
    }
}
