//! What the names and shapes of the tensors say about the LSTM, where the file has no metadata.

use super::file::File;
use super::keys::{Key, Kind};
use super::list;
use crate::error::{Error, Result};
use crate::network::{Direction, GATES, LstmConfig};

/// The default of `torch.nn.LayerNorm`; the shapes cannot show another.
const LAYER_NORM_EPSILON: f32 = 1e-5;

/// The configuration that the tensors under `prefix` have, as far as it can be seen.
pub(super) fn infer(file: &File<'_>, prefix: &str) -> Result<LstmConfig> {
    sizes(file, prefix).and_then(|config| config.validate().map(|()| config)).map_err(|error| {
        let asked = r#"say what it is with --config '{"input_size": ..., "hidden_size": ...}'"#;
        let kind = error.kind();
        Error::new(kind, format!("cannot infer the LSTM from its tensors: {error}; {asked}"))
    })
}

fn sizes(file: &File<'_>, prefix: &str) -> Result<LstmConfig> {
    let [gates, input_size] = matrix(file, prefix, Kind::WeightIh, "[4*hidden_size, input_size]")?;
    let [hh_gates, out_size] = matrix(file, prefix, Kind::WeightHh, "[4*hidden_size, out_size]")?;
    let has = |kinds: &[Kind]| file.keys_of(prefix).any(|key| kinds.contains(&key.kind));
    let mut config = LstmConfig::new(input_size, gates / GATES);
    if has(&[Kind::WeightHr]) {
        let [proj, hidden] = matrix(file, prefix, Kind::WeightHr, "[proj_size, hidden_size]")?;
        config.hidden_size = hidden;
        config.proj_size = Some(proj);
    }
    let hidden = config.hidden_size;
    let consistent = gates == hh_gates && hidden.checked_mul(GATES) == Some(gates) && out_size == config.out_size();
    if !consistent {
        let name = |kind| Key::of(prefix, kind, 0, 0).name();
        let shapes = format!("`{}` [{gates}, {input_size}] and `{}` [{hh_gates}, {out_size}]", name(Kind::WeightIh), name(Kind::WeightHh));
        let hint = match out_size {
            out if gates == hh_gates && Some(gates) == out.checked_mul(3) => ", which are a GRU's",
            out if gates == hh_gates && gates == out => ", which are a plain RNN's",
            out if gates == hh_gates && gates % GATES == 0 && out < gates / GATES => ", which need a projection `weight_hr`",
            _ => "",
        };
        return Err(Error::shape(format!("expected [4*hidden_size, input_size] and [4*hidden_size, out_size], found {shapes}{hint}")));
    }
    config.num_layers = file.keys_of(prefix).map(|key| key.layer.saturating_add(1)).max().unwrap_or(1);
    config.direction = if file.keys_of(prefix).any(|key| key.reverse) { Direction::Bidirectional } else { Direction::Forward };
    config.bias = has(&[Kind::BiasIh, Kind::BiasHh]);
    config.peepholes = has(&[Kind::Peephole]);
    config.layer_norm = has(&[Kind::GammaIh, Kind::GammaHh, Kind::GammaC, Kind::BetaC]).then_some(LAYER_NORM_EPSILON);
    Ok(config)
}

fn matrix(file: &File<'_>, prefix: &str, kind: Kind, rule: &str) -> Result<[usize; 2]> {
    let name = Key::of(prefix, kind, 0, 0).name();
    let tensor = file.tensors.get(&name).ok_or_else(|| Error::shape(format!("tensor `{name}`: expected {rule}, found none")))?;
    <[usize; 2]>::try_from(tensor.shape.as_slice()).map_err(|_| Error::shape(format!("tensor `{name}`: expected {rule}, found {:?}", tensor.shape)))
}

/// What was inferred and what was assumed, for the user.
pub(super) fn note(config: &LstmConfig) -> String {
    let mut parts = vec![
        format!("input_size {}", config.input_size),
        format!("hidden_size {}", config.hidden_size),
        format!("num_layers {}", config.num_layers),
        config.direction.name().to_owned(),
        (if config.bias { "with biases" } else { "without biases" }).to_owned(),
    ];
    parts.extend(config.proj_size.map(|size| format!("proj_size {size}")));
    parts.extend(config.peepholes.then(|| "peepholes".to_owned()));
    parts.extend(config.layer_norm.map(|epsilon| format!("layer normalisation, its epsilon assumed to be {epsilon}")));
    format!(
        "no metadata key `lstm`; inferred from names and shapes: {}; the order of the input's axes cannot be seen, time first is assumed \
         (PyTorch's default), `--batch-first` says otherwise",
        list(parts.into_iter(), usize::MAX)
    )
}
