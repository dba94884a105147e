//! The names of the tensors of `torch.nn.LSTM`, with this crate's additions, and the shape that goes with each.

use crate::network::{Direction, GATES, LstmConfig};

/// What a tensor is, without its layer and direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `weight_ih`: of the layer's input
    WeightIh,
    /// `weight_hh`: of the hidden state
    WeightHh,
    /// `bias_ih`
    BiasIh,
    /// `bias_hh`
    BiasHh,
    /// `weight_hr`: the projection
    WeightHr,
    /// `weight_peephole`: rows i, f, o
    Peephole,
    /// `gamma_ih`: scale of the normalised input product
    GammaIh,
    /// `gamma_hh`: scale of the normalised recurrent product
    GammaHh,
    /// `gamma_c`: scale of the normalised cell state
    GammaC,
    /// `beta_c`: offset of the normalised cell state
    BetaC,
}

impl Kind {
    /// Every kind there is.
    pub(super) const ALL: [Self; 10] = [
        Self::WeightIh,
        Self::WeightHh,
        Self::BiasIh,
        Self::BiasHh,
        Self::WeightHr,
        Self::Peephole,
        Self::GammaIh,
        Self::GammaHh,
        Self::GammaC,
        Self::BetaC,
    ];

    /// Its name in a file, before the layer.
    fn name(self) -> &'static str {
        match self {
            Self::WeightIh => "weight_ih",
            Self::WeightHh => "weight_hh",
            Self::BiasIh => "bias_ih",
            Self::BiasHh => "bias_hh",
            Self::WeightHr => "weight_hr",
            Self::Peephole => "weight_peephole",
            Self::GammaIh => "gamma_ih",
            Self::GammaHh => "gamma_hh",
            Self::GammaC => "gamma_c",
            Self::BetaC => "beta_c",
        }
    }

    /// Whether every cell of this configuration has such a tensor.
    pub(super) fn is_in(self, config: &LstmConfig) -> bool {
        match self {
            Self::WeightIh | Self::WeightHh => true,
            Self::BiasIh | Self::BiasHh => config.bias,
            Self::WeightHr => config.proj_size.is_some(),
            Self::Peephole => config.peepholes,
            Self::GammaIh | Self::GammaHh | Self::GammaC | Self::BetaC => config.layer_norm.is_some(),
        }
    }

    /// The shape in words and in numbers.
    pub(super) fn shape(self, config: &LstmConfig, layer: usize) -> (&'static str, Vec<usize>) {
        let (hidden, gates, out) = (config.hidden_size, GATES * config.hidden_size, config.out_size());
        match self {
            Self::WeightIh if layer == 0 => ("[4*hidden_size, input_size]", vec![gates, config.input_size]),
            Self::WeightIh => ("[4*hidden_size, num_directions*out_size]", vec![gates, config.y_size()]),
            Self::WeightHh if config.proj_size.is_some() => ("[4*hidden_size, proj_size]", vec![gates, out]),
            Self::WeightHh => ("[4*hidden_size, hidden_size]", vec![gates, out]),
            Self::BiasIh | Self::BiasHh | Self::GammaIh | Self::GammaHh => ("[4*hidden_size]", vec![gates]),
            Self::WeightHr => ("[proj_size, hidden_size]", vec![out, hidden]),
            Self::Peephole => ("[3, hidden_size]", vec![3, hidden]),
            Self::GammaC | Self::BetaC => ("[hidden_size]", vec![hidden]),
        }
    }
}

/// A tensor's name, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key<'a> {
    /// the path of the module in the network, empty or with its last dot
    pub(super) prefix: &'a str,
    /// what it is
    pub(super) kind: Kind,
    /// its layer, from 0
    pub(super) layer: usize,
    /// whether the name ends in `_reverse`
    pub(super) reverse: bool,
}

impl<'a> Key<'a> {
    /// `None` where the name is not one that `torch.nn.LSTM` or this crate's additions give.
    pub(super) fn parse(name: &'a str) -> Option<Self> {
        let (stem, reverse) = name.strip_suffix("_reverse").map_or((name, false), |stem| (stem, true));
        let (head, digits) = stem.rsplit_once("_l")?;
        let layer: usize = digits.parse().ok().filter(|layer: &usize| layer.to_string() == digits)?;
        let kind = Kind::ALL.into_iter().find(|kind| head.ends_with(kind.name()))?;
        let prefix = &head[..head.len() - kind.name().len()];
        (prefix.is_empty() || prefix.ends_with(['.', '/'])).then_some(Self { prefix, kind, layer, reverse })
    }

    /// The key of direction `dir`; only the second of two directions is marked in the name.
    pub(super) fn of(prefix: &'a str, kind: Kind, layer: usize, dir: usize) -> Self {
        Self { prefix, kind, layer, reverse: dir == 1 }
    }

    /// The name in the file.
    pub(super) fn name(&self) -> String {
        format!("{}{}_l{}{}", self.prefix, self.kind.name(), self.layer, if self.reverse { "_reverse" } else { "" })
    }

    /// Whether the configuration has a place for the tensor.
    pub(super) fn is_in(&self, config: &LstmConfig) -> bool {
        self.kind.is_in(config) && self.layer < config.num_layers && (!self.reverse || config.direction == Direction::Bidirectional)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_taken_apart_and_put_together() {
        for (prefix, layer, dir) in [("", 0, 0), ("lstm.", 12, 1), ("encoder.rnn_l2.", 3, 0), ("a/b/", 1, 1)] {
            for kind in Kind::ALL {
                let key = Key::of(prefix, kind, layer, dir);
                assert_eq!(Key::parse(&key.name()), Some(key));
            }
        }
        for name in
            ["", "weight", "weight_ih", "weight_ih_l", "weight_ih_l01", "weight_ih_l-1", "weight_ih_l+1", "myweight_ih_l0", "_l0", "fc.weight_l0"]
        {
            assert_eq!(Key::parse(name), None, "{name}");
        }
    }
}
