//! Which specialisation of each kernel an LSTM needs: its text's constants and the values of its overrides.

use crate::gpu::form::{MatrixForm, ProductForm, ResidentForm, RowForm, SoftmaxForm, TileForm};
use crate::gpu::kernels::{CellText, KernelId, Part};
use crate::network::{Activation, CellActivations, LstmConfig, Precision, RowFunction};

/// A kernel with its constants and overrides set: what a pipeline is made from, and the key under which it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Specialisation {
    /// which kernel
    pub kernel: KernelId,
    /// how the weights that it reads are stored
    pub precision: Precision,
    /// which text computes its cells
    pub cell: CellText,
    /// constants of its text by name, in the kernel table's order
    pub constants: Vec<(&'static str, u32)>,
    /// override values by name, in the kernel table's order
    pub overrides: Vec<(&'static str, f64)>,
}

/// Everything beside the configuration that decides a specialisation.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Shape {
    /// how weights are stored
    pub precision: Precision,
    /// rows of the batch have lengths of their own
    pub ragged: bool,
    /// several layers a dispatch
    pub wavefront: bool,
    /// of a kernel that applies one
    pub function: RowFunction,
}

/// The form that a kernel is built in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// of a kernel that has only one
    Only,
    /// of a product
    Product(ProductForm),
    /// of the resident kernel
    Resident(ResidentForm),
    /// of softmax
    Softmax(SoftmaxForm),
}

/// Threads in a workgroup of the kernels that have one form.
pub(crate) const WORKGROUP_SIZE: u32 = 64;

/// Identifies a specialisation.
pub(crate) type Key = (KernelId, Precision, CellText, Vec<u32>, Vec<u64>);

impl Specialisation {
    /// The specialisation of `kernel` in `form` for `config` and `shape`.
    ///
    /// # Panics
    /// If the kernel has no such form.
    pub fn new(kernel: KernelId, form: Form, config: &LstmConfig, shape: Shape) -> Self {
        let table = kernel.kernel();
        let constant = |name: &'static str| {
            let value = constant(name, form, config).unwrap_or_else(|| panic!("{}: constant {name} has no value in {form:?}", table.name));
            (name, value)
        };
        let cell = if table.has_cells() { cell_text(config) } else { CellText::Usual };
        Self {
            kernel,
            precision: if table.reads_weights() { shape.precision } else { Precision::F32 },
            constants: table.constants.iter().map(|&name| constant(name)).collect(),
            cell,
            overrides: table.override_names(cell).map(|name| (name, value_of(name, config, shape))).collect(),
        }
    }

    /// The parts of its text.
    pub fn parts(&self) -> Vec<Part> {
        self.kernel.kernel().parts(self.precision, self.cell)
    }

    /// A key that is equal for equal specialisations.
    pub(crate) fn key(&self) -> Key {
        let constants = self.constants.iter().map(|(_, value)| *value).collect();
        (self.kernel, self.precision, self.cell, constants, self.overrides.iter().map(|(_, value)| value.to_bits()).collect())
    }
}

fn constant(name: &str, form: Form, config: &LstmConfig) -> Option<u32> {
    match form {
        Form::Only => (name == "WORKGROUP_SIZE").then_some(WORKGROUP_SIZE),
        Form::Product(ProductForm::Rows(RowForm { workgroup_size, rows, k_lanes, .. })) => match name {
            "WORKGROUP_SIZE" => Some(workgroup_size),
            "ROWS" => Some(rows),
            "K_LANES" => Some(k_lanes),
            "LOW_LEN" => Some(if sums_pairs(config) { rows * workgroup_size } else { 1 }),
            _ => None,
        },
        Form::Product(ProductForm::Tile(tile)) => tile_constant(name, tile, sums_pairs(config)),
        Form::Product(ProductForm::Matrix(form)) => matrix_constant(name, form),
        Form::Softmax(SoftmaxForm { workgroup_size, lanes }) => match name {
            "WORKGROUP_SIZE" => Some(workgroup_size),
            "LANES" => Some(lanes),
            _ => None,
        },
        Form::Resident(form) => {
            let inputs = u32::try_from(form.inputs(config.hidden_size)).ok()?;
            match name {
                "WORKGROUP_SIZE" => Some(form.workgroup_size),
                "ROWS" => Some(form.rows),
                "UNITS" => Some(form.units),
                "K_LANES" => Some(form.k_lanes),
                "OWN_ROWS" => Some(form.rows.div_ceil(form.k_lanes)),
                "INPUTS" => Some(inputs),
                "HELD_K" => Some(if form.held { inputs / form.k_lanes } else { 0 }),
                _ => None,
            }
        }
    }
}

fn tile_constant(name: &str, tile: TileForm, pairs: bool) -> Option<u32> {
    match name {
        "WORKGROUP_SIZE" => Some(tile.workgroup_size()),
        "ROW_THREADS" => Some(tile.row_threads),
        "UNIT_THREADS" => Some(tile.unit_threads),
        "ROW_QUADS" => Some(tile.row_quads),
        "UNITS" => Some(tile.units),
        // two rows of every output at a time
        "LOW_LEN" => Some(if pairs { 2 * tile.units * tile.workgroup_size() } else { 1 }),
        _ => None,
    }
}

fn matrix_constant(name: &str, form: MatrixForm) -> Option<u32> {
    match name {
        "WORKGROUP_SIZE" => Some(form.workgroup_size()),
        "SIZE" => Some(form.size),
        "K_STEPS" => Some(MatrixForm::K_TILE / form.size),
        "ROW_TILES" => Some(form.row_tiles),
        "COLUMN_TILES" => Some(form.column_tiles),
        "ROW_CHUNKS" => Some(form.row_chunks),
        "COLUMN_CHUNKS" => Some(form.column_chunks),
        _ => None,
    }
}

/// Whether the kernels compute in pairs of `float32` between two steps. Those of layer normalisation have no pairs.
pub(crate) fn sums_pairs(config: &LstmConfig) -> bool {
    config.amplifies_rounding() && config.layer_norm.is_none()
}

/// The shortest text that computes the stack's cells.
fn cell_text(config: &LstmConfig) -> CellText {
    if sums_pairs(config) {
        CellText::Pairs
    } else if config.activations[..config.num_directions()].iter().all(|used| *used == CellActivations::default()) {
        CellText::Usual
    } else {
        CellText::Any
    }
}

fn value_of(name: &str, config: &LstmConfig, shape: Shape) -> f64 {
    let flag = |set: bool| f64::from(u8::from(set));
    let bound = |bound: Option<f32>| f64::from(bound.unwrap_or(0.0));
    match name {
        "RAGGED" => flag(shape.ragged),
        "WAVEFRONT" => flag(shape.wavefront),
        "RAW_ONLY" => flag(config.layer_norm.is_some()),
        // `step` asks RAW_ONLY first: with layer normalisation, `norm_cell` finishes the cell and sees the projection
        "PROJECTED" => flag(config.proj_size.is_some()),
        // the bias of a layer-normalised input product is added after the normalisation
        "HAS_BIAS" => flag(config.bias && config.layer_norm.is_none()),
        "PAIRS" => flag(sums_pairs(config)),
        "EPSILON" => f64::from(config.layer_norm.unwrap_or(0.0)),
        "COUPLED" => flag(config.input_forget),
        "PEEPHOLES" => flag(config.peepholes),
        "CLIP" => bound(config.clip),
        "CELL_CLIP" => bound(config.cell_clip),
        "PROJ_CLIP" => bound(config.proj_clip),
        "PER_DIRECTION" => flag(config.num_directions() == 2 && config.activations[0] != config.activations[1]),
        "KIND" | "ALPHA" | "BETA" => row_activation_value(name, shape.function),
        "LOG" => flag(shape.function == RowFunction::LogSoftmax),
        name => activation_value(name, config).unwrap_or_else(|| unreachable!("override {name} has a value")),
    }
}

/// The value of an override such as `CANDIDATE_ALPHA_1`.
fn activation_value(name: &str, config: &LstmConfig) -> Option<f64> {
    let (rest, dir) = name.rsplit_once('_')?;
    let activations = &config.activations[if dir == "1" && config.num_directions() == 2 { 1 } else { 0 }];
    let (which, parameter) = rest.split_once('_').map_or((rest, None), |(which, parameter)| (which, Some(parameter)));
    let activation = match which {
        "GATE" => activations.gate,
        "CANDIDATE" => activations.candidate,
        "OUTPUT" => activations.output,
        _ => return None,
    };
    let (alpha, beta) = activation.parameters();
    match parameter {
        None => Some(f64::from(activation_code(activation))),
        Some("ALPHA") => Some(f64::from(alpha)),
        Some("BETA") => Some(f64::from(beta)),
        Some(_) => None,
    }
}

/// The value of an override of `row_activation.wgsl`.
fn row_activation_value(name: &str, function: RowFunction) -> f64 {
    let RowFunction::Activation(activation) = function else { return 0.0 };
    let (alpha, beta) = activation.parameters();
    match name {
        "KIND" => f64::from(activation_code(activation)),
        "ALPHA" => f64::from(alpha),
        _ => f64::from(beta),
    }
}

/// The activation's number in `shaders/shared/activations.wgsl`.
pub fn activation_code(activation: Activation) -> u32 {
    match activation {
        Activation::Sigmoid => 0,
        Activation::Tanh => 1,
        Activation::Relu => 2,
        Activation::Affine { .. } => 3,
        Activation::LeakyRelu { .. } => 4,
        Activation::ThresholdedRelu { .. } => 5,
        Activation::ScaledTanh { .. } => 6,
        Activation::HardSigmoid { .. } => 7,
        Activation::Elu { .. } => 8,
        Activation::Softsign => 9,
        Activation::Softplus => 10,
    }
}
