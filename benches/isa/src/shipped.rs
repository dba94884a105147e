//! What the crate ships: the specialisations that plans of typical stacks use, and the shader of each.

use cellgate::gpu::pack::pack;
use cellgate::gpu::plan::{DeviceProfile, Request, build};
use cellgate::gpu::shader::Shader;
use cellgate::gpu::specialise::Specialisation;
use cellgate::{Activation, CellActivations, CellWeights, Direction, GATES, LayerNormWeights, Lstm, LstmConfig};
use ndarray::{Array1, Array2};

use crate::Result;

/// A specialisation as a shader compiler sees it.
#[derive(Clone, PartialEq)]
pub(crate) struct Shipped {
    pub(crate) kernel: &'static str,
    pub(crate) wgsl: String,
    pub(crate) entry_point: &'static str,
    pub(crate) overrides: Vec<(&'static str, f64)>,
}

/// How the crate makes a shader of a specialisation.
fn shader(specialisation: &Specialisation) -> Shipped {
    let kernel = specialisation.kernel.kernel();
    let overrides = specialisation.overrides.clone();
    Shipped { kernel: kernel.name, wgsl: Shader::new(kernel).source, entry_point: kernel.name, overrides }
}

/// What `gpu::device` tells plans about a GPU; what only decides how calls are split is at its least.
fn profile() -> DeviceProfile {
    DeviceProfile {
        max_binding_bytes: 128 << 20,
        max_workgroups: 65_535,
        uniform_alignment: 256,
        activation_bytes: 256 << 20,
        max_loop_iterations: u64::MAX,
        flops_per_second: 200e9,
        bytes_per_second: 20e9,
        seconds_per_dispatch: 5e-6,
        seconds_per_submit: 0.05,
        fill_workgroups: 128,
    }
}

/// Every specialisation of the plans of [`stacks`], once, the kernels in the order of their first use.
pub(crate) fn all() -> Result<Vec<Shipped>> {
    let mut found: Vec<Shipped> = Vec::new();
    for (config, batch, ragged) in stacks() {
        let packed = pack(&zeros(&config)?, profile().max_binding_bytes).map_err(|error| error.to_string())?;
        let plan = build(&config, &packed.layers, Request { batch, seq_len: 2, ragged, start_slot: 0 }, &profile());
        for shipped in plan.specialisations.iter().map(shader) {
            if !found.contains(&shipped) {
                found.push(shipped);
            }
        }
    }
    let mut kernels: Vec<&str> = Vec::new();
    for shipped in &found {
        if !kernels.contains(&shipped.kernel) {
            kernels.push(shipped.kernel);
        }
    }
    found.sort_by_key(|shipped| kernels.iter().position(|kernel| *kernel == shipped.kernel));
    Ok(found)
}

/// (stack, rows, rows have lengths of their own): few rows and many of a plain stack, then every option at many rows, and the costliest at few.
fn stacks() -> Vec<(LstmConfig, usize, bool)> {
    const FEW: usize = 1;
    const MANY: usize = 128;
    let plain = LstmConfig::new(256, 256);
    let change = |change: &dyn Fn(&mut LstmConfig)| {
        let mut config = plain.clone();
        change(&mut config);
        config
    };
    let same = |activation: Activation| CellActivations { gate: activation, candidate: activation, output: activation };
    let named = |name: &str| Activation::from_onnx(name).expect("the names of ONNX are known");
    let relu = change(&|config| config.activations = [same(named("Relu")); 2]);
    let all = change(&|config| {
        (config.peepholes, config.input_forget, config.layer_norm) = (true, true, Some(1e-5));
        (config.proj_size, config.clip, config.cell_clip, config.proj_clip) = (Some(128), Some(1.0), Some(1.0), Some(1.0));
    });
    let mut stacks: Vec<_> = [MANY, 32, 8, FEW].map(|batch| (plain.clone(), batch, false)).to_vec();
    stacks.push((plain.clone(), MANY, true));
    let variants = [
        change(&|config| config.bias = false),
        change(&|config| config.peepholes = true),
        change(&|config| config.input_forget = true),
        change(&|config| (config.clip, config.cell_clip) = (Some(1.0), Some(1.0))),
        change(&|config| {
            config.direction = Direction::Bidirectional;
            config.activations = [same(named("HardSigmoid")), same(named("Softsign"))];
        }),
        relu.clone(),
        change(&|config| config.proj_size = Some(128)),
        change(&|config| config.layer_norm = Some(1e-5)),
        all.clone(),
    ];
    stacks.extend(variants.map(|config| (config, MANY, false)));
    stacks.extend([relu, all].map(|config| (config, FEW, true)));
    stacks
}

/// A stack whose weights are all zero: no specialisation depends on their values.
fn zeros(config: &LstmConfig) -> Result<Lstm> {
    let (gates, hidden) = (GATES * config.hidden_size, config.hidden_size);
    let bias = config.bias.then(|| Array1::zeros(gates));
    let cells = (0..config.num_cells()).map(|number| CellWeights {
        weight_ih: Array2::zeros((gates, config.layer_input_size(number / config.num_directions()))),
        weight_hh: Array2::zeros((gates, config.out_size())),
        bias_ih: bias.clone(),
        bias_hh: bias.clone(),
        weight_hr: config.proj_size.map(|proj| Array2::zeros((proj, hidden))),
        peepholes: config.peepholes.then(|| Array2::zeros((3, hidden))),
        layer_norm: config.layer_norm.map(|_| LayerNormWeights {
            gamma_ih: Array1::ones(gates),
            gamma_hh: Array1::ones(gates),
            gamma_c: Array1::ones(hidden),
            beta_c: Array1::zeros(hidden),
        }),
    });
    Lstm::new(config.clone(), cells.collect()).map_err(|error| error.to_string())
}
