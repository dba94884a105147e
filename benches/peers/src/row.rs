//! The shapes that are timed, with weights and inputs that are the same everywhere.

use std::fmt;

use cellgate::{CellWeights, DeviceChoice, Direction, Engine, GATES, Inputs, Lstm, LstmConfig, Network, Options};
use ndarray::{Array1, Array2, Array3, ArrayD};
use serde::{Deserialize, Serialize};

use crate::Result;

/// A shape to time.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    pub layers: usize,
    pub directions: usize,
    pub batch: usize,
    pub seq_len: usize,
    pub input_size: usize,
    pub hidden_size: usize,
}

/// The part of `rows.json` that is timed on any device.
#[derive(Deserialize)]
struct RowsFile {
    rows: Vec<Row>,
}

/// The rows of `rows.json` that `selection` names: `all`, or numbers from 0, separated by commas.
pub fn select(selection: &str) -> Result<Vec<Row>> {
    let RowsFile { rows } = serde_json::from_str(include_str!("../rows.json"))?;
    if selection == "all" {
        return Ok(rows);
    }
    let chosen = selection.split(',').map(|number| {
        let row = number.trim().parse().ok().and_then(|number: usize| rows.get(number).copied());
        row.ok_or_else(|| format!("row `{number}`: expected 0 to {} or `all`", rows.len() - 1).into())
    });
    chosen.collect()
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { layers, directions, batch, seq_len, input_size, hidden_size } = self;
        write!(f, "L={layers} D={directions} N={batch} T={seq_len} I={input_size} H={hidden_size}")
    }
}

/// A row with everything that a peer needs, and what it must compute.
pub struct Case {
    pub row: Row,
    /// of layer and direction `(layer, dir)` at `layer * D + dir`
    pub cells: Vec<CellWeights>,
    pub network: Network,
    /// `[T, N, I]`
    pub x: Array3<f32>,
    /// `y [T, N, D*H]` of the float64 reference
    pub expected: ArrayD<f64>,
}

impl Case {
    /// Weights as `torch.nn.LSTM` initialises them, uniform in `±1/sqrt(H)`, and an input uniform in ±1.
    pub fn new(row: Row) -> Result<Self> {
        let direction = if row.directions == 2 { Direction::Bidirectional } else { Direction::Forward };
        let config = LstmConfig { num_layers: row.layers, direction, ..LstmConfig::new(row.input_size, row.hidden_size) };
        let mut random = Random(1);
        let bound = 1.0 / (row.hidden_size as f32).sqrt();
        let gates = GATES * row.hidden_size;
        let cells = (0..config.num_cells()).map(|number| {
            let input_size = config.layer_input_size(number / row.directions);
            CellWeights {
                weight_ih: Array2::from_shape_simple_fn((gates, input_size), || random.uniform(bound)),
                weight_hh: Array2::from_shape_simple_fn((gates, row.hidden_size), || random.uniform(bound)),
                bias_ih: Some(Array1::from_shape_simple_fn(gates, || random.uniform(bound))),
                bias_hh: Some(Array1::from_shape_simple_fn(gates, || random.uniform(bound))),
                weight_hr: None,
                peepholes: None,
                layer_norm: None,
            }
        });
        let cells: Vec<_> = cells.collect();
        let x = Array3::from_shape_simple_fn((row.seq_len, row.batch, row.input_size), || random.uniform(1.0));
        let network = Network::from_lstm(Lstm::new(config, cells.clone())?, false);
        let mut reference = Engine::new(DeviceChoice::Reference)?.session(&network, Options::default())?;
        let expected = reference.run(&Inputs::new().with("x", x.view()))?["y"].mapv(f64::from);
        Ok(Self { row, cells, network, x, expected })
    }
}

/// The linear congruential generator of Knuth's MMIX: the same numbers everywhere.
struct Random(u64);

impl Random {
    /// The next number, uniform in `±bound`.
    fn uniform(&mut self, bound: f32) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // the upper 24 bits are the good ones, and all that a float32 holds
        let unit = (self.0 >> 40) as f32 / (1_u64 << 24) as f32;
        (2.0 * unit - 1.0) * bound
    }
}
