use super::*;
use crate::device::Hardware;
use crate::error::ErrorKind;
use crate::gpu::form::{ProductForm, Schedule, ScheduleName};
use crate::gpu::kernels::{InputGatesParams, ResidentParams, StepParams};
use crate::gpu::pack::{PackedLayout, pack};
use crate::network::{Activation, CellActivations, CellWeights, Direction, GATES, LayerNormWeights, Lstm, LstmConfig, Precision};
use ndarray::{Array1, Array2};

fn profile() -> DeviceProfile {
    DeviceProfile::least(Hardware::Discrete)
}

fn layout(config: &LstmConfig) -> PackedLayout {
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
    pack(&lstm, Precision::F32, 1 << 30).expect("it fits").layout
}

fn request(batch: usize, seq_len: usize) -> Request {
    Request { batch, seq_len, ragged: false, start_slot: 0 }
}

/// The cheapest plan of a schedule.
fn plan_to(name: ScheduleName, config: &LstmConfig, request: Request, profile: &DeviceProfile) -> Plan {
    let layout = layout(config);
    let ranked = ranked(config, &layout, request.batch, Some(name), profile);
    let (choice, _) = ranked.first().unwrap_or_else(|| panic!("{:?}", refusal(name, config, &layout, profile)));
    build(config, &layout, request, *choice, profile)
}

fn plan(config: &LstmConfig, request: Request, profile: &DeviceProfile) -> Plan {
    plan_to(ScheduleName::PerStep, config, request, profile)
}

/// Which of a product's forms; what is counted does not depend on it.
fn plain(kernel: KernelId) -> KernelId {
    match kernel {
        KernelId::InputGatesRows | KernelId::InputGatesSubgroups | KernelId::InputGatesMatrix => KernelId::InputGates,
        KernelId::StepTile | KernelId::StepSubgroups | KernelId::StepMatrix => KernelId::Step,
        KernelId::ProjectTile | KernelId::ProjectSubgroups | KernelId::ProjectMatrix => KernelId::Project,
        KernelId::ResidentHeld => KernelId::Resident,
        kernel => kernel,
    }
}

fn counts(plan: &Plan) -> Vec<(KernelId, usize)> {
    plan.counts().into_iter().map(|(kernel, count)| (plain(kernel), count)).collect()
}

fn params<P: bytemuck::Pod>(plan: &Plan, kernel: KernelId) -> Vec<P> {
    let of_kernel = |dispatch: &&Dispatch| plain(plan.specialisations[dispatch.specialisation].kernel) == kernel;
    let read = |dispatch: &Dispatch| *bytemuck::from_bytes(&plan.params[dispatch.params_offset as usize..][..size_of::<P>()]);
    plan.dispatches.iter().filter(of_kernel).map(read).collect()
}

fn count(plan: &Plan, kernel: KernelId) -> usize {
    counts(plan).into_iter().find(|(known, _)| *known == kernel).map_or(0, |(_, count)| count)
}

#[test]
fn a_step_is_one_dispatch_for_both_directions() {
    let config = LstmConfig { num_layers: 3, direction: Direction::Bidirectional, ..LstmConfig::new(16, 32) };
    let plan = plan(&config, request(4, 10), &profile());
    assert_eq!(counts(&plan), [(KernelId::InputGates, 3), (KernelId::Step, 30)]);
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
    let rows: Vec<_> = inputs.iter().map(|p| (p.num_rows / 2, p.x_row / 2, p.x_row.wrapping_add(p.x_row_stride) / 2)).collect();
    assert_eq!(rows, [(3, 0, 4), (3, 3, 1), (1, 6, 0)]);
    let steps: Vec<StepParams> = params(&plan, KernelId::Step);
    for (s, step) in steps.iter().enumerate() {
        let (first, len) = (s / 3 * 3, rows[s / 3].0 as usize);
        let (t_0, t_1) = (step.t, step.t.wrapping_add(step.t_stride));
        assert_eq!((t_0 as usize, t_1 as usize), (s, seq_len - 1 - s));
        let local = |t: u32, start: usize| (t as usize - start) * batch * 5;
        assert_eq!(step.gates_base as usize, local(t_0, first));
        assert_eq!(step.gates_base.wrapping_add(step.gates_stride) as usize, len * batch * 5 + local(t_1, rows[s / 3].2 as usize));
    }
}

#[test]
fn the_slots_of_h_take_turns() {
    let config = LstmConfig { num_layers: 2, ..LstmConfig::new(3, 5) };
    for start_slot in [0, 1] {
        let plan = plan(&config, Request { start_slot, ..request(2, 3) }, &profile());
        let slots: Vec<_> = params::<StepParams>(&plan, KernelId::Step).iter().map(|p| (p.slot, p.h_len)).collect();
        let turn = [0, 1, 0].map(|slot| ((slot + start_slot as u32) % 2, 2 * 2 * 5));
        assert_eq!(slots, [turn, turn].concat());
        assert_eq!(plan.end_slot(), 1 - start_slot);
    }
}

#[test]
fn a_wave_holds_every_layer_that_has_a_step_in_it() {
    for direction in [Direction::Forward, Direction::Reverse] {
        let config = LstmConfig { num_layers: 3, direction, ..LstmConfig::new(16, 32) };
        let plan = plan_to(ScheduleName::Wavefront, &config, request(4, 5), &profile());
        assert_eq!(counts(&plan), [(KernelId::InputGates, 1), (KernelId::Step, 5 + 2)]);
        assert_eq!(plan.flops(), config.flops_per_step() * 20);
        let (layout, steps) = (layout(&config), params::<StepParams>(&plan, KernelId::Step));
        let waves: Vec<_> = plan.dispatches[1..].iter().zip(&steps).map(|(dispatch, step)| (step.cell, dispatch.workgroups[2])).collect();
        assert_eq!(waves, [(0, 1), (0, 2), (0, 3), (0, 3), (0, 3), (1, 2), (2, 1)]);
        for (wave, (step, (lowest, count))) in steps.iter().zip(waves).enumerate() {
            assert_eq!(step.hoisted, u32::from(lowest == 0));
            for z in 0..count {
                let (layer, s) = ((lowest + z) as usize, wave as u32 - lowest - z);
                let t = if direction == Direction::Forward { s } else { 4 - s };
                assert_eq!(step.t.wrapping_add(z.wrapping_mul(step.t_stride)), t, "wave {wave}, layer {layer}");
                assert_eq!((step.slot + z * step.slot_stride) % 2, s % 2, "wave {wave}, layer {layer}");
                assert_eq!(step.vectors_base + z * step.vectors_stride, layout.layers[layer].vectors);
                let weights = layout.layers[layer];
                let base = step.concat_base.wrapping_add(z * step.concat_stride);
                assert!(if layer == 0 { step.weight_base == weights.weight_hh.base } else { base == weights.weight_ih.base }, "layer {layer}");
            }
        }
    }
}

#[test]
fn a_resident_chunk_is_one_dispatch_that_knows_both_directions() {
    let config = LstmConfig { direction: Direction::Bidirectional, ..LstmConfig::new(3, 5) };
    let small = DeviceProfile { max_binding_bytes: (2 * 3 * 2 * 5 * 16) as u64, ..profile() };
    let plan = plan_to(ScheduleName::Resident, &config, Request { start_slot: 1, ..request(2, 7) }, &small);
    assert_eq!(counts(&plan), [(KernelId::InputGates, 3), (KernelId::Resident, 3)]);
    let chunks: Vec<ResidentParams> = params(&plan, KernelId::Resident);
    let seen: Vec<_> = chunks.iter().map(|p| (p.num_steps, p.t, p.t.wrapping_add(p.t_stride), p.slot, p.next_slot)).collect();
    assert_eq!(seen, [(3, 0, 6, 1, 0), (3, 3, 3, 0, 1), (1, 6, 0, 1, 0)]);
    assert!(chunks.iter().all(|p| p.t_step == 1 && p.t_step.wrapping_add(p.t_step_stride) == u32::MAX));
    // direction 1 starts at the last step of its part of gates_x
    assert_eq!(chunks[0].gates_base.wrapping_add(chunks[0].gates_stride), (3 + 2) * 2 * 5);
    assert_eq!(plan.flops(), config.flops_per_step() * 14);
}

#[test]
fn what_does_not_suit_is_refused_with_its_reason() {
    let plain = LstmConfig::new(8, 16);
    let normed = LstmConfig { layer_norm: Some(1e-5), num_layers: 2, ..plain.clone() };
    let both_ways = LstmConfig { direction: Direction::Bidirectional, num_layers: 2, ..plain.clone() };
    let projected = LstmConfig { proj_size: Some(4), ..plain.clone() };
    let relu = CellActivations { gate: Activation::Relu, ..CellActivations::default() };
    let unbounded = LstmConfig { activations: [relu; 2], ..plain.clone() };
    for (name, config, word) in [
        (ScheduleName::Wavefront, &plain, "one"),
        (ScheduleName::Wavefront, &both_ways, "bidirectional"),
        (ScheduleName::Wavefront, &normed, "layer-normalised"),
        (ScheduleName::Resident, &normed, "layer-normalised"),
        (ScheduleName::Resident, &projected, "projection"),
        (ScheduleName::Resident, &unbounded, "amplify rounding"),
        (ScheduleName::Resident, &LstmConfig::new(8, 5000), "hidden_size = 5000"),
    ] {
        let refusal = refusal(name, config, &layout(config), &profile()).unwrap_or_else(|| panic!("{name} suits {config:?}")).to_string();
        assert!(refusal.contains(name.name()) && refusal.contains(word), "{refusal}");
        assert!(candidates(config, &layout(config), 4, Some(name), &profile()).is_empty());
    }
    let per_step = |config: &LstmConfig| candidates(config, &layout(config), 4, None, &profile());
    assert!([&plain, &normed, &both_ways, &projected, &unbounded].into_iter().all(|config| !per_step(config).is_empty()));
}

#[test]
fn candidates_keep_to_the_limits_of_the_device() {
    for hidden_size in [1, 31, 64, 100, 256, 700] {
        let config = LstmConfig { num_layers: 2, ..LstmConfig::new(16, hidden_size) };
        let (layout, profile) = (layout(&config), profile());
        for batch in [1, 3, 40] {
            let candidates = candidates(&config, &layout, batch, None, &profile);
            for choice in &candidates {
                match choice.schedule {
                    Schedule::Resident(form) => {
                        assert!(form.workgroup_size <= 256 && form.shared_bytes(hidden_size) <= 16_384, "{hidden_size}: {form:?}");
                        assert!(form.group_units() as usize >= hidden_size, "{hidden_size}: {form:?} leaves units out");
                        assert!(form.held_quads(hidden_size) * 4 <= 64, "{hidden_size}: {form:?}");
                    }
                    Schedule::PerStep(form) | Schedule::Wavefront(form) => assert!(form.workgroup_size() <= 256),
                }
            }
            let mut distinct = candidates.clone();
            distinct.dedup();
            assert_eq!(distinct.len(), candidates.len(), "a candidate is listed twice");
        }
    }
}

#[test]
fn few_rows_split_their_sums_and_many_do_not() {
    let form = |batch, config: &LstmConfig| plan(config, request(batch, 1), &profile()).choice.schedule.product();
    let lanes = |batch, config: &LstmConfig| if let Some(ProductForm::Rows(form)) = form(batch, config) { Some(form.k_lanes) } else { None };
    let config = LstmConfig::new(256, 256);
    assert!(lanes(1, &config).is_some_and(|lanes| lanes >= 4));
    assert!(matches!(form(4096, &config), Some(ProductForm::Tile(tile)) if tile.row_quads * tile.units >= 4));
    // a sum of one term cannot be split
    assert_eq!(lanes(1, &LstmConfig::new(1, 1)), Some(1));
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
    let llvmpipe = DeviceProfile { max_loop_iterations: 65_535, ..profile() };
    // sums of many terms are split over threads, where they can be
    assert!(split(&LstmConfig::new(500_000, 1024), 1, 1, &llvmpipe).is_ok());
    let relu = CellActivations { gate: Activation::Relu, ..CellActivations::default() };
    let unbounded = |input_size| LstmConfig { activations: [relu; 2], ..LstmConfig::new(input_size, 1024) };
    assert!(split(&unbounded(40_000), 1, 1, &llvmpipe).is_ok());
    let error = split(&unbounded(60_000), 1, 1, &llvmpipe).expect_err("too many iterations");
    assert_eq!(error.kind(), ErrorKind::Limit);
    assert!(error.to_string().contains("loop iterations"), "{error}");
    // every plan keeps to the limit, those that walk over time included
    let config = LstmConfig::new(3, 200);
    let plan = plan_to(ScheduleName::Resident, &config, request(4, 4000), &llvmpipe);
    let Schedule::Resident(form) = plan.choice.schedule else { panic!("{:?}", plan.choice) };
    let (once, step) = cost::loop_iterations::resident(&config, form);
    assert!(plan.chunk_steps < 4000 && once + plan.chunk_steps as u64 * step <= 65_535, "{} steps of {step}", plan.chunk_steps);
}
