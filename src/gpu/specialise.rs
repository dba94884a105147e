//! Which specialisation of each kernel an LSTM needs: the values of the kernels' overrides.

use crate::gpu::kernels::KernelId;
use crate::network::{Activation, LstmConfig};

/// A kernel with its overrides set: what a pipeline is made from, and the key under which it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Specialisation {
    /// which kernel
    pub kernel: KernelId,
    /// override values by name, in the kernel table's order
    pub overrides: Vec<(&'static str, f64)>,
}

/// Everything beside the configuration that decides a specialisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// rows of the batch have lengths of their own
    pub ragged: bool,
    /// rows that one workgroup of `step` and `project` takes: 1 or 4
    pub rows: u32,
    /// threads that share one output in `step` and `project`
    pub k_lanes: u32,
}

/// Threads in a workgroup of every kernel but `input_gates`, which has its 64 written down.
pub(crate) const WORKGROUP_SIZE: u32 = 64;

impl Specialisation {
    /// The specialisation of `kernel` for `config` and `shape`.
    pub fn new(kernel: KernelId, config: &LstmConfig, shape: Shape) -> Self {
        let overrides = kernel.kernel().override_names().map(|name| (name, value_of(name, config, shape))).collect();
        Self { kernel, overrides }
    }

    /// A key that is equal for equal specialisations.
    pub(crate) fn key(&self) -> (KernelId, Vec<u64>) {
        (self.kernel, self.overrides.iter().map(|(_, value)| value.to_bits()).collect())
    }
}

/// Whether the kernels compute in pairs of `float32` between two steps. Those of layer normalisation have no pairs.
pub(crate) fn sums_pairs(config: &LstmConfig) -> bool {
    config.amplifies_rounding() && config.layer_norm.is_none()
}

fn value_of(name: &str, config: &LstmConfig, shape: Shape) -> f64 {
    let flag = |set: bool| f64::from(u8::from(set));
    let bound = |bound: Option<f32>| f64::from(bound.unwrap_or(0.0));
    match name {
        "WORKGROUP_SIZE" => f64::from(WORKGROUP_SIZE),
        "K_LANES" => f64::from(shape.k_lanes),
        "ROWS" => f64::from(shape.rows),
        "RAGGED" => flag(shape.ragged),
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
