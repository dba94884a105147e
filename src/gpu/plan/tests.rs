use super::*;
use crate::error::ErrorKind;
use crate::gpu::kernels::{InputGatesParams, StepParams};
use crate::gpu::pack::{PackedLayer, pack};
use crate::network::{CellWeights, Direction, GATES, LayerNormWeights, Lstm, LstmConfig};
use ndarray::{Array1, Array2};

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

fn layers(config: &LstmConfig) -> Vec<PackedLayer> {
    let (gates, hidden) = (GATES * config.hidden_size, config.hidden_size);
    let cells = (0..config.num_cells()).map(|number| CellWeights {
        weight_ih: Array2::zeros((gates, config.layer_input_size(number / config.num_directions()))),
        weight_hh: Array2::zeros((gates, config.out_size())),
        bias_ih: Some(Array1::zeros(gates)),
        bias_hh: Some(Array1::zeros(gates)),
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
    pack(&lstm, 1 << 30).expect("it fits").layers
}

fn request(batch: usize, seq_len: usize) -> Request {
    Request { batch, seq_len, ragged: false, start_slot: 0 }
}

fn plan(config: &LstmConfig, request: Request, profile: &DeviceProfile) -> Plan {
    build(config, &layers(config), request, profile)
}

fn params<P: bytemuck::Pod>(plan: &Plan, kernel: KernelId) -> Vec<P> {
    let of_kernel = |dispatch: &&Dispatch| plan.specialisations[dispatch.specialisation].kernel == kernel;
    let read = |dispatch: &Dispatch| *bytemuck::from_bytes(&plan.params[dispatch.params_offset as usize..][..size_of::<P>()]);
    plan.dispatches.iter().filter(of_kernel).map(read).collect()
}

fn count(plan: &Plan, kernel: KernelId) -> usize {
    plan.counts().into_iter().find(|(known, _)| *known == kernel).map_or(0, |(_, count)| count)
}

#[test]
fn a_step_is_one_dispatch_for_both_directions() {
    let config = LstmConfig { num_layers: 3, direction: Direction::Bidirectional, ..LstmConfig::new(16, 32) };
    let plan = plan(&config, request(4, 10), &profile());
    assert_eq!(plan.counts(), [(KernelId::InputGates, 3), (KernelId::Step, 30)]);
    assert!(plan.dispatches.iter().all(|dispatch| dispatch.workgroups[2] == 2));
    assert_eq!(plan.y, BufferId::Sequence(0));
    assert_eq!(plan.flops(), config.flops_per_step() * 40);
}

#[test]
fn variants_add_their_kernels() {
    let plain = LstmConfig::new(8, 16);
    let projected = LstmConfig { proj_size: Some(5), ..plain.clone() };
    let normed = LstmConfig { layer_norm: Some(1e-5), ..plain };
    let both = LstmConfig { layer_norm: Some(1e-5), ..projected.clone() };
    for (config, expected) in [(&projected, [0, 7, 0, 7]), (&normed, [1, 7, 7, 0]), (&both, [1, 7, 7, 7])] {
        let plan = plan(config, request(2, 7), &profile());
        let counts = [KernelId::NormGates, KernelId::Step, KernelId::NormCell, KernelId::Project].map(|kernel| count(&plan, kernel));
        assert_eq!(counts, expected);
        assert!(plan.buffers.iter().any(|(id, _)| *id == BufferId::Scratch));
    }
}

#[test]
fn the_reverse_direction_walks_from_the_last_step_and_from_its_own_chunk() {
    let config = LstmConfig { direction: Direction::Bidirectional, ..LstmConfig::new(3, 5) };
    let (batch, seq_len) = (2, 7);
    // room for three steps of both directions
    let small = DeviceProfile { max_binding_bytes: (2 * 3 * batch * 5 * 16) as u64, ..profile() };
    let plan = plan(&config, request(batch, seq_len), &small);
    assert_eq!(plan.chunk_steps, 3);
    let inputs: Vec<InputGatesParams> = params(&plan, KernelId::InputGates);
    let rows: Vec<_> = inputs.iter().map(|p| (p.num_rows / 2, p.x_row_0 / 2, p.x_row_1 / 2)).collect();
    assert_eq!(rows, [(3, 0, 4), (3, 3, 1), (1, 6, 0)]);
    let steps: Vec<StepParams> = params(&plan, KernelId::Step);
    for (s, step) in steps.iter().enumerate() {
        let (first, len) = (s / 3 * 3, rows[s / 3].0 as usize);
        assert_eq!((step.t_0 as usize, step.t_1 as usize), (s, seq_len - 1 - s));
        let local = |t: u32, start: usize| (t as usize - start) * batch * 5;
        assert_eq!(step.gates_0 as usize, local(step.t_0, first));
        assert_eq!(step.gates_1 as usize, len * batch * 5 + local(step.t_1, rows[s / 3].2 as usize));
    }
}

#[test]
fn the_slots_of_h_take_turns() {
    let config = LstmConfig { num_layers: 2, ..LstmConfig::new(3, 5) };
    for start_slot in [0, 1] {
        let plan = plan(&config, Request { start_slot, ..request(2, 3) }, &profile());
        let slot_len = 2 * 2 * 5;
        let slots: Vec<_> =
            params::<StepParams>(&plan, KernelId::Step).iter().map(|p| (p.h_prev_base / slot_len, p.h_next_base / slot_len)).collect();
        let turn = [(0, 1), (1, 0), (0, 1)].map(|(prev, next)| if start_slot == 0 { (prev, next) } else { (next, prev) });
        assert_eq!(slots, [turn, turn].concat());
        assert_eq!(plan.end_slot(), 1 - start_slot);
    }
}

#[test]
fn few_rows_split_their_sums_and_many_do_not() {
    let k_lanes = |batch, config: &LstmConfig| {
        let plan = plan(config, request(batch, 1), &profile());
        let step = plan.specialisations.iter().find(|s| s.kernel == KernelId::Step).expect("every plan steps");
        step.overrides.iter().find(|(name, _)| *name == "K_LANES").map(|(_, value)| *value)
    };
    let config = LstmConfig::new(256, 256);
    assert_eq!((k_lanes(1, &config), k_lanes(4096, &config)), (Some(16.0), Some(1.0)));
    // a sum of one term cannot be split
    assert_eq!(k_lanes(1, &LstmConfig::new(1, 1)), Some(1.0));
}

#[test]
fn submits_cover_all_dispatches_and_stay_short() {
    let config = LstmConfig::new(64, 256);
    let slow = DeviceProfile { flops_per_second: 8e9, ..profile() };
    let plan = plan(&config, request(32, 100), &slow);
    assert_eq!(plan.submits.first().map(|submit| submit.start), Some(0));
    assert_eq!(plan.submits.last().map(|submit| submit.end), Some(plan.dispatches.len()));
    assert!(plan.submits.windows(2).all(|pair| pair[0].end == pair[1].start));
    for submit in &plan.submits {
        let flops: u64 = plan.dispatches[submit.clone()].iter().map(|dispatch| dispatch.flops).sum();
        assert!(submit.len() == 1 || flops as f64 <= slow.flops_per_submit());
    }
}

#[test]
fn a_call_is_split_by_rows_and_by_time() {
    let config = LstmConfig::new(64, 64);
    assert_eq!(split(&config, 32, 100, &profile()).ok(), Some(Split { rows: 32, steps: 100 }));
    // 1000 steps of 4 rows are 1,024,000 bytes of x
    let small = DeviceProfile { max_binding_bytes: 300_000, ..profile() };
    assert_eq!(split(&config, 4, 1000, &small).ok(), Some(Split { rows: 4, steps: 250 }));
    let reversed = LstmConfig { direction: Direction::Reverse, ..config.clone() };
    assert_eq!(split(&reversed, 4, 1000, &small).ok(), Some(Split { rows: 4, steps: 250 }));
    // a bidirectional stack is split by rows alone: y has 128 features
    let bidirectional = LstmConfig { direction: Direction::Bidirectional, ..config };
    assert_eq!(split(&bidirectional, 4, 250, &small).ok(), Some(Split { rows: 2, steps: 250 }));
    let error = split(&bidirectional, 4, 1000, &small).expect_err("one row of all steps does not fit");
    assert_eq!(error.kind(), ErrorKind::Limit);
    assert!(error.to_string().contains("max_storage_buffer_binding_size"), "{error}");
}

#[test]
fn activations_together_stay_below_their_share() {
    let config = LstmConfig { num_layers: 3, direction: Direction::Bidirectional, ..LstmConfig::new(64, 64) };
    let small = DeviceProfile { activation_bytes: 10 << 20, ..profile() };
    let split = split(&config, 1000, 100, &small).expect("it fits");
    let plan = plan(&config, request(split.rows, split.steps), &small);
    let shared = |id: &BufferId| matches!(id, BufferId::X | BufferId::Sequence(_));
    let bytes: u64 = plan.buffers.iter().filter(|(id, _)| shared(id)).map(|(_, bytes)| bytes).sum();
    assert!(split.rows > 1 && bytes <= small.activation_bytes, "{split:?}: {bytes} bytes");
}

#[test]
fn long_calls_do_not_make_plans_without_end() {
    let deep = LstmConfig { num_layers: 100, proj_size: Some(1), layer_norm: Some(1e-5), ..LstmConfig::new(1, 1) };
    let steps = split(&deep, 1, 1 << 20, &profile()).expect("time can be split").steps;
    assert!(steps * 300 <= 1 << 14, "{steps} steps of 300 dispatches");
    assert_eq!(split(&LstmConfig::new(1, 1), 1, 4097, &profile()).ok(), Some(Split { rows: 1, steps: 2049 }));
    let whole = LstmConfig { direction: Direction::Bidirectional, ..LstmConfig::new(1, 1) };
    for seq_len in [1 << 21, usize::MAX / 2] {
        let error = split(&whole, 1, seq_len, &profile()).expect_err("more dispatches, or bytes, than there can be");
        assert_eq!(error.kind(), ErrorKind::Limit);
    }
}

#[test]
fn rows_of_a_carried_state_do_not_depend_on_the_length() {
    let config = LstmConfig::new(300, 100);
    let small = DeviceProfile { max_binding_bytes: 1 << 20, activation_bytes: 1 << 20, ..profile() };
    let rows: Vec<_> = [1, 10, 1000, 100_000].map(|seq_len| split(&config, 5000, seq_len, &small).map(|split| split.rows).ok()).to_vec();
    assert!(rows[0].is_some_and(|rows| rows < 5000) && rows.iter().all(|row| *row == rows[0]), "{rows:?}");
}

#[test]
fn loops_too_long_for_the_driver_are_refused() {
    // llvmpipe gives right results at 40,320 and wrong ones at 40,336
    let llvmpipe = DeviceProfile { max_loop_iterations: 65_535, ..profile() };
    assert!(split(&LstmConfig::new(40_320, 1024), 1, 1, &llvmpipe).is_ok());
    let error = split(&LstmConfig::new(40_336, 1024), 1, 1, &llvmpipe).expect_err("too many iterations");
    assert_eq!(error.kind(), ErrorKind::Limit);
    assert!(error.to_string().contains("loop iterations"), "{error}");
}
