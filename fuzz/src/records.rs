//! The tuner's records: stacks that they are about, what a session would do with one, and mutations of a file of them.

use std::sync::OnceLock;

use cellgate::fuzzing::{Recorded, written};
use cellgate::gpu::form::Choice;
use cellgate::gpu::pack::{PackedLayout, pack};
use cellgate::gpu::plan::{self, DeviceProfile, Request};
use cellgate::{CellWeights, Direction, GATES, Hardware, LayerNormWeights, Lstm, LstmConfig, Measurement, Precision, SidesMeasurement};
use ndarray::{Array1, Array2};

use crate::json::Json;
use crate::rng::Rng;

/// Steps of the plans that are built.
const MOST_STEPS: usize = 8;

/// Names that the library knows.
const WORDS: &[&str] = &[
    "PerStep",
    "Wavefront",
    "Resident",
    "Rows",
    "Tile",
    "Matrix",
    "per-step",
    "wavefront",
    "resident",
    "workgroup_size",
    "rows",
    "k_lanes",
    "subgroups",
    "row_threads",
    "unit_threads",
    "row_quads",
    "units",
    "held",
    "size",
    "row_tiles",
    "subgroup_threads",
    "schedule",
    "input",
    "choice",
    "measured",
    "seconds",
    "n",
    "sides",
    "gpu_seconds",
    "cpu_seconds",
    "cpu",
    "key",
    "lstm",
    "precision",
    "checked_shaders",
    "date",
    "seq_len",
    "records",
    "measured_with",
    "f16",
    "int8",
    "F32",
    "Int8",
];

/// A stack on a device.
pub struct Stack {
    /// what it is
    pub config: LstmConfig,
    /// how its weights lie
    pub layout: PackedLayout,
    /// what the device can do
    pub profile: DeviceProfile,
}

impl Stack {
    fn new(config: LstmConfig, precision: Precision, profile: DeviceProfile) -> Self {
        let (gates, hidden) = (GATES * config.hidden_size, config.hidden_size);
        let cells = (0..config.num_cells()).map(|cell| CellWeights {
            weight_ih: Array2::zeros((gates, config.layer_input_size(cell / config.num_directions()))),
            weight_hh: Array2::zeros((gates, config.out_size())),
            bias_ih: config.bias.then(|| Array1::zeros(gates)),
            bias_hh: config.bias.then(|| Array1::zeros(gates)),
            weight_hr: config.proj_size.map(|proj| Array2::zeros((proj, hidden))),
            peepholes: None,
            layer_norm: config.layer_norm.map(|_| LayerNormWeights {
                gamma_ih: Array1::ones(gates),
                gamma_hh: Array1::ones(gates),
                gamma_c: Array1::ones(hidden),
                beta_c: Array1::zeros(hidden),
            }),
        });
        let lstm = Lstm::new(config.clone(), cells.collect()).expect("a valid stack");
        let layout = pack(&lstm, precision, profile.max_binding_bytes).expect("it fits").layout;
        Self { config, layout, profile }
    }

    /// Does what a session does with a record that it believes, but for what needs a device.
    pub fn use_record(&self, record: &Recorded) {
        let Self { config, layout, profile } = self;
        let Recorded { rows, choice, seq_len, .. } = *record;
        let predict = |choice: Choice, steps| {
            let seconds = plan::cost(config, layout.precision, rows, steps, choice, profile).seconds();
            assert!(seconds.is_finite() && seconds > 0.0, "{choice:?} is expected to take {seconds} s");
            seconds
        };
        for measurement in &record.measured {
            let said = format!("{}, {}", measurement.choice.schedule, measurement.choice.input);
            assert!(!said.is_empty() && predict(measurement.choice, seq_len) > 0.0);
        }
        if let Some(SidesMeasurement { gpu_seconds, cpu_seconds, .. }) = record.sides {
            let factor = gpu_seconds / predict(choice, seq_len);
            assert!(factor.is_finite() && factor > 0.0 && cpu_seconds.is_finite() && cpu_seconds > 0.0);
        }
        let request = Request { batch: rows, seq_len: seq_len.min(MOST_STEPS), ragged: false, start_slot: 0 };
        let plan = plan::build(config, layout, request, choice, profile);
        assert!(plan.dispatches.iter().all(|dispatch| dispatch.workgroups.iter().all(|groups| (1..=profile.max_workgroups).contains(groups))));
        assert!(plan.buffers.iter().all(|(_, bytes)| *bytes <= profile.max_binding_bytes), "{:?}", plan.buffers);
        let products = choice.schedule.product().into_iter().chain([choice.input]);
        assert!(products.into_iter().all(|form| (1..=profile.max_workgroup_threads).contains(&form.workgroup_size())), "{choice:?}");
    }

    /// A file of a record that could be this stack's.
    fn file(&self, rng: &mut Rng) -> Vec<u8> {
        let rows = [1, 2, 5, 16, 64, 1000][rng.below(6)];
        let candidates = plan::candidates(&self.config, &self.layout, rows, None, &self.profile);
        let measured: Vec<Measurement> =
            candidates.iter().filter(|_| rng.below(4) == 0).map(|&choice| Measurement { choice, seconds: 1e-3, n: 7 }).collect();
        let choice = measured.first().map_or(candidates[0], |measurement| measurement.choice);
        let sides = (rng.below(2) == 0).then(|| SidesMeasurement { gpu_seconds: 1e-3, cpu_seconds: 2e-3, cpu: "a CPU".to_owned() });
        written(vec![Recorded { rows, schedule: None, choice, seq_len: 1 + rng.below(100), measured, sides }])
    }
}

/// Stacks of every kind, on devices of several.
pub fn stacks() -> &'static [Stack] {
    static STACKS: OnceLock<Vec<Stack>> = OnceLock::new();
    STACKS.get_or_init(|| {
        let least = DeviceProfile::least(Hardware::Discrete);
        let most = DeviceProfile { subgroups: Some((32, 64)), matrices: Some(16), sum_quads: 32, max_workgroup_threads: 1024, ..least };
        let software = DeviceProfile { max_loop_iterations: 65_535, ..DeviceProfile::least(Hardware::Cpu) };
        let two = LstmConfig { num_layers: 2, ..LstmConfig::new(5, 33) };
        vec![
            Stack::new(LstmConfig::new(1, 1), Precision::F32, least),
            Stack::new(LstmConfig { num_layers: 3, ..LstmConfig::new(16, 64) }, Precision::F16, most),
            Stack::new(LstmConfig { direction: Direction::Bidirectional, ..two.clone() }, Precision::Int8, software),
            Stack::new(LstmConfig { layer_norm: Some(1e-5), ..two.clone() }, Precision::F32, least),
            Stack::new(LstmConfig { proj_size: Some(7), ..two }, Precision::F16, most),
        ]
    })
}

/// Changes `bytes` in up to four places, or makes a file of records; `None` where they are no JSON, or become too long.
pub fn mutate(bytes: &[u8], max_size: usize, seed: u32) -> Option<Vec<u8>> {
    let mut rng = Rng::new(seed);
    let known = str::from_utf8(bytes).ok().and_then(Json::parse);
    let mut tree = match known {
        Some(tree) if rng.below(16) != 0 => tree,
        _ => Json::parse(str::from_utf8(&stacks()[rng.below(stacks().len())].file(&mut rng)).ok()?)?,
    };
    for _ in 0..rng.below(5) {
        tree.mutate(WORDS, &mut rng);
    }
    let made = tree.to_string().into_bytes();
    (made.len() <= max_size).then_some(made)
}
