//! What the crate ships: the specialisations of every candidate for a range of stacks and batches, and the shader of each.

use cellgate::gpu::form::{ProductForm, Schedule};
use cellgate::gpu::pack::pack;
use cellgate::gpu::plan::{DenseKind, DenseRequest, DenseSpec, DeviceProfile, Request, build, build_dense, candidates};
use cellgate::gpu::shader::Shader;
use cellgate::gpu::specialise::Specialisation;
use cellgate::{Activation, CellActivations, CellWeights, Direction, GATES, Hardware, LayerNormWeights, Lstm, LstmConfig, Precision, RowFunction};
use ndarray::{Array1, Array2};

use crate::Result;

/// A specialisation as a shader compiler sees it.
#[derive(Clone, PartialEq)]
pub(crate) struct Shipped {
    pub(crate) kernel: &'static str,
    /// what the text is made for, beside the overrides
    pub(crate) form: String,
    pub(crate) wgsl: String,
    pub(crate) entry_point: &'static str,
    pub(crate) overrides: Vec<(&'static str, f64)>,
}

/// How the crate makes a shader of a specialisation.
fn shader(specialisation: &Specialisation) -> Shipped {
    let kernel = specialisation.kernel.kernel();
    let value = |name: &str| specialisation.constants.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
    let named = |(name, word): &(&str, &str)| Some(format!("{word} {}", value(name)?));
    let words = [
        ("WORKGROUP_SIZE", "threads"),
        ("ROW_THREADS", "row threads"),
        ("ROW_QUADS", "row quads"),
        ("ROWS", "rows"),
        ("UNITS", "units"),
        ("K_LANES", "k lanes"),
        ("LANES", "threads a row"),
        ("INPUTS", "inputs"),
    ];
    let mut form: Vec<String> = words.iter().filter_map(named).collect();
    if kernel.reads_weights() {
        form.push(specialisation.precision.to_string());
    }
    Shipped {
        kernel: kernel.name,
        form: form.join(", "),
        wgsl: Shader::new(specialisation).source,
        entry_point: kernel.entry,
        overrides: specialisation.overrides.clone(),
    }
}

/// What `gpu::device` tells plans about a GPU; what only decides how calls are split is at its least.
fn profile() -> DeviceProfile {
    DeviceProfile {
        max_workgroup_threads: 1024,
        max_workgroup_bytes: 32 << 10,
        subgroups: Some((32, 64)),
        // Mesa before 25 does not compile cooperative matrices
        matrices: None,
        ..DeviceProfile::least(Hardware::Discrete)
    }
}

/// Every specialisation of every candidate of the plain stacks, and of the best candidate of every variant; once, the kernels in the order of
/// their first use.
pub(crate) fn all() -> Result<Vec<Shipped>> {
    let mut found: Vec<Shipped> = Vec::new();
    for stack in stacks() {
        let packed = pack(&zeros(&stack.config)?, stack.precision, profile().max_binding_bytes).map_err(|error| error.to_string())?;
        let request = Request { batch: stack.batch, seq_len: 2, ragged: stack.ragged, start_slot: 0 };
        let mut choices = candidates(&stack.config, &packed.layout, stack.batch, None, &profile());
        if !stack.every_candidate {
            choices.truncate(1);
        }
        for choice in choices {
            let mut built = vec![choice];
            // the input product has the forms that a step has
            if let Schedule::PerStep(form @ (ProductForm::Tile(_) | ProductForm::Rows(_))) = choice.schedule {
                built.push(cellgate::gpu::form::Choice { input: form, ..choice });
            }
            for choice in built {
                let plan = build(&stack.config, &packed.layout, request, choice, &profile());
                for shipped in plan.specialisations.iter().map(shader) {
                    if !found.contains(&shipped) {
                        found.push(shipped);
                    }
                }
            }
        }
    }
    for (spec, features) in dense() {
        let request = DenseRequest { rows: 100, features, x_row: 0, given: true };
        let plan = build_dense(&spec, request, None, &profile());
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

/// Stages around the LSTMs that have kernels of their own, and their features: rows that share a workgroup, and rows that fill one.
fn dense() -> Vec<(DenseSpec, usize)> {
    let alone = |function| DenseSpec { kind: DenseKind::Function, function, precision: Precision::F32 };
    let embedding = DenseKind::Embedding { num_embeddings: 1000, embedding_dim: 128 };
    vec![
        (DenseSpec { kind: embedding, ..alone(RowFunction::None) }, 128),
        (alone(RowFunction::Activation(Activation::Tanh)), 128),
        (alone(RowFunction::Softmax), 4),
        (alone(RowFunction::Softmax), 128),
        (alone(RowFunction::LogSoftmax), 10_000),
    ]
}

struct Stack {
    config: LstmConfig,
    precision: Precision,
    batch: usize,
    ragged: bool,
    every_candidate: bool,
}

/// Plain stacks in every precision, few rows and many; then every option at many rows, and the costliest at few.
fn stacks() -> Vec<Stack> {
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
    let mut stacks = Vec::new();
    for precision in Precision::ALL {
        for hidden in [128] {
            for batch in [FEW, MANY] {
                stacks.push(Stack { config: LstmConfig::new(hidden, hidden), precision, batch, ragged: false, every_candidate: true });
            }
        }
    }
    let one = |config: LstmConfig, batch, ragged| Stack { config, precision: Precision::F32, batch, ragged, every_candidate: false };
    let variants = [
        plain.clone(),
        change(&|config| config.peepholes = true),
        change(&|config| {
            config.direction = Direction::Bidirectional;
            config.activations = [same(named("HardSigmoid")), same(named("Softsign"))];
        }),
        relu.clone(),
        change(&|config| config.proj_size = Some(128)),
        change(&|config| config.layer_norm = Some(1e-5)),
        all.clone(),
        change(&|config| config.num_layers = 3),
    ];
    stacks.extend(variants.map(|config| one(config, MANY, true)));
    stacks.extend([relu, all].map(|config| one(config, FEW, true)));
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
