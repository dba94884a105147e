//! The weights of an LSTM stack, as plain arrays in PyTorch's shapes and gate order.

use ndarray::{Array1, Array2, ArrayViewD};

use crate::error::{Error, Result};
use crate::network::{GATES, LstmConfig};

/// The weights of one layer and direction. Rows of a `4*hidden_size` axis are the gates i, f, g, o, one block after the other.
#[derive(Clone, Debug, PartialEq)]
pub struct CellWeights {
    /// `[4H, I]`; above the first layer I is D * R
    pub weight_ih: Array2<f32>,
    /// `[4H, R]`
    pub weight_hh: Array2<f32>,
    /// `[4H]`, present where the configuration has biases
    pub bias_ih: Option<Array1<f32>>,
    /// `[4H]`, present where the configuration has biases
    pub bias_hh: Option<Array1<f32>>,
    /// `[P, H]`, present where the configuration has a projection
    pub weight_hr: Option<Array2<f32>>,
    /// `[3, H]`: the rows are the peepholes of the gates i, f, o
    pub peepholes: Option<Array2<f32>>,
    /// present where the configuration has layer normalisation
    pub layer_norm: Option<LayerNormWeights>,
}

/// Scales and offsets of a layer-normalised cell.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerNormWeights {
    /// `[4H]`: scale of the normalised input product
    pub gamma_ih: Array1<f32>,
    /// `[4H]`: scale of the normalised recurrent product
    pub gamma_hh: Array1<f32>,
    /// `[H]`: scale of the normalised cell state
    pub gamma_c: Array1<f32>,
    /// `[H]`: offset of the normalised cell state
    pub beta_c: Array1<f32>,
}

/// A stack of LSTM layers: configuration and weights, checked against each other.
#[derive(Clone, Debug, PartialEq)]
pub struct Lstm {
    config: LstmConfig,
    cells: Vec<CellWeights>,
}

impl Lstm {
    /// Joins a configuration and its weights; cell `(layer, dir)` is `cells[layer * D + dir]`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) where the configuration is not valid or the number of cells is wrong,
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) naming the first tensor that is missing, superfluous or of another shape.
    pub fn new(config: LstmConfig, cells: Vec<CellWeights>) -> Result<Self> {
        config.validate()?;
        if cells.len() != config.num_cells() {
            return Err(Error::config(format!(
                "weights: expected num_layers * num_directions = {} cells, found {}",
                config.num_cells(),
                cells.len()
            )));
        }
        for (number, cell) in cells.iter().enumerate() {
            let (layer, dir) = (number / config.num_directions(), number % config.num_directions());
            cell.check(&config, layer).map_err(|error| error.within(format!("layer {layer}, direction {dir}")))?;
        }
        Ok(Self { config, cells })
    }

    /// The sizes and the variant.
    pub fn config(&self) -> &LstmConfig {
        &self.config
    }

    /// The weights of one layer and direction.
    ///
    /// # Panics
    /// If `layer` or `dir` is out of range.
    pub fn cell(&self, layer: usize, dir: usize) -> &CellWeights {
        assert!(dir < self.config.num_directions(), "direction {dir} of {}", self.config.num_directions());
        &self.cells[layer * self.config.num_directions() + dir]
    }

    /// The weights of every layer and direction, layer by layer.
    pub(crate) fn cells(&self) -> impl Iterator<Item = &CellWeights> {
        self.cells.iter()
    }

    /// Whether the configurations are equal and the weights bit by bit; NaN is no exception, nor is the sign of 0.
    pub(crate) fn same_bits(&self, other: &Self) -> bool {
        self.config == other.config && self.cells.iter().zip(&other.cells).all(|(a, b)| a.same_bits(b))
    }

    /// Names of the weight tensors that hold NaN or infinity, which are run as they are.
    pub fn non_finite(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (number, cell) in self.cells.iter().enumerate() {
            let (layer, dir) = (number / self.config.num_directions(), number % self.config.num_directions());
            for (name, values) in cell.tensors() {
                if values.iter().any(|value| !value.is_finite()) {
                    found.push(format!("{name} of layer {layer}, direction {dir}"));
                }
            }
        }
        found
    }
}

impl CellWeights {
    fn same_bits(&self, other: &Self) -> bool {
        let (ours, others) = (self.tensors(), other.tensors());
        let same = |a: &ArrayViewD<'_, f32>, b: &ArrayViewD<'_, f32>| {
            a.shape() == b.shape() && a.iter().zip(b.iter()).all(|(a, b)| a.to_bits() == b.to_bits())
        };
        ours.len() == others.len() && ours.iter().zip(&others).all(|((name, a), (other, b))| name == other && same(a, b))
    }

    /// `bias_ih + bias_hh`, zeros where there are none: what the backends add once, each rounded as its arithmetic asks.
    pub(crate) fn bias_sum(&self) -> Array1<f64> {
        let mut sum = Array1::zeros(self.weight_ih.nrows());
        for bias in [&self.bias_ih, &self.bias_hh].into_iter().flatten() {
            sum += &bias.mapv(f64::from);
        }
        sum
    }

    /// Every tensor that is there, by name.
    fn tensors(&self) -> Vec<(&'static str, ArrayViewD<'_, f32>)> {
        let matrices = [("weight_hr", &self.weight_hr), ("peepholes", &self.peepholes)];
        let vectors = [("bias_ih", &self.bias_ih), ("bias_hh", &self.bias_hh)];
        let mut tensors = vec![("weight_ih", self.weight_ih.view().into_dyn()), ("weight_hh", self.weight_hh.view().into_dyn())];
        tensors.extend(matrices.into_iter().filter_map(|(name, matrix)| Some((name, matrix.as_ref()?.view().into_dyn()))));
        tensors.extend(vectors.into_iter().filter_map(|(name, vector)| Some((name, vector.as_ref()?.view().into_dyn()))));
        if let Some(norm) = &self.layer_norm {
            let parts = [("gamma_ih", &norm.gamma_ih), ("gamma_hh", &norm.gamma_hh), ("gamma_c", &norm.gamma_c), ("beta_c", &norm.beta_c)];
            tensors.extend(parts.map(|(name, part)| (name, part.view().into_dyn())));
        }
        tensors
    }

    fn check(&self, config: &LstmConfig, layer: usize) -> Result<()> {
        let (gates, hidden, out) = (GATES * config.hidden_size, config.hidden_size, config.out_size());
        let input = config.layer_input_size(layer);
        expect("weight_ih", "[4*hidden_size, input_size]", &[gates, input], self.weight_ih.shape())?;
        expect("weight_hh", "[4*hidden_size, out_size]", &[gates, out], self.weight_hh.shape())?;
        let biases = [("bias_ih", &self.bias_ih), ("bias_hh", &self.bias_hh)];
        for (name, bias) in biases {
            expect_optional(name, "[4*hidden_size]", config.bias, &[gates], bias.as_ref().map(|b| b.shape()))?;
        }
        let proj = config.proj_size.unwrap_or(0);
        expect_optional(
            "weight_hr",
            "[proj_size, hidden_size]",
            config.proj_size.is_some(),
            &[proj, hidden],
            self.weight_hr.as_ref().map(|w| w.shape()),
        )?;
        expect_optional("peepholes", "[3, hidden_size]", config.peepholes, &[3, hidden], self.peepholes.as_ref().map(|p| p.shape()))?;
        match (&self.layer_norm, config.layer_norm) {
            (Some(norm), Some(_)) => {
                expect("gamma_ih", "[4*hidden_size]", &[gates], norm.gamma_ih.shape())?;
                expect("gamma_hh", "[4*hidden_size]", &[gates], norm.gamma_hh.shape())?;
                expect("gamma_c", "[hidden_size]", &[hidden], norm.gamma_c.shape())?;
                expect("beta_c", "[hidden_size]", &[hidden], norm.beta_c.shape())
            }
            (None, None) => Ok(()),
            (found, _) => Err(Error::shape(format!(
                "layer normalisation weights: expected {}, found {}",
                if found.is_none() { "some" } else { "none" },
                if found.is_none() { "none" } else { "some" }
            ))),
        }
    }
}

fn expect(name: &str, rule: &str, expected: &[usize], found: &[usize]) -> Result<()> {
    if expected == found { Ok(()) } else { Err(Error::shape(format!("tensor `{name}`: expected {rule} = {expected:?}, found {found:?}"))) }
}

fn expect_optional(name: &str, rule: &str, wanted: bool, expected: &[usize], found: Option<&[usize]>) -> Result<()> {
    match (wanted, found) {
        (true, Some(found)) => expect(name, rule, expected, found),
        (true, None) => Err(Error::shape(format!("tensor `{name}`: expected {rule} = {expected:?}, found none"))),
        (false, Some(_)) => Err(Error::shape(format!("tensor `{name}`: expected none by the configuration, found one"))),
        (false, None) => Ok(()),
    }
}
