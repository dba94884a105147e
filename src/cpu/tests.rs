use std::sync::atomic::Ordering;

use ndarray::{Array1, Array2, Array3, Array4, ArrayView2, ArrayView3, Axis, concatenate, s};

use super::*;
use crate::network::{Activation, CellActivations, CellWeights, Direction, LayerNormWeights};

/// Every activation, with parameters that are not its defaults where it has some.
pub(super) const ACTIVATIONS: [Activation; 11] = [
    Activation::Sigmoid,
    Activation::Tanh,
    Activation::Relu,
    Activation::Affine { alpha: 0.75, beta: -0.25 },
    Activation::LeakyRelu { alpha: 0.01 },
    Activation::ThresholdedRelu { alpha: 0.5 },
    Activation::ScaledTanh { alpha: 1.5, beta: 0.5 },
    Activation::HardSigmoid { alpha: 0.2, beta: 0.5 },
    Activation::Elu { alpha: 0.5 },
    Activation::Softsign,
    Activation::Softplus,
];

/// Numbers in (-1, 1) that look random, the same in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    fn matrix(&mut self, rows: usize, cols: usize, scale: f32) -> Array2<f32> {
        Array2::from_shape_simple_fn((rows, cols), || scale * self.next())
    }

    fn vector(&mut self, len: usize) -> Array1<f32> {
        Array1::from_shape_simple_fn(len, || self.next())
    }

    fn cube(&mut self, shape: (usize, usize, usize)) -> Array3<f32> {
        Array3::from_shape_simple_fn(shape, || self.next())
    }
}

fn lstm(config: &LstmConfig, numbers: &mut Numbers) -> Arc<Lstm> {
    let (hidden, gates, out) = (config.hidden_size, 4 * config.hidden_size, config.out_size());
    let scale = 2.0 / (hidden as f32).sqrt();
    let cells = (0..config.num_cells()).map(|number| CellWeights {
        weight_ih: numbers.matrix(gates, config.layer_input_size(number / config.num_directions()), scale),
        weight_hh: numbers.matrix(gates, out, scale),
        bias_ih: config.bias.then(|| numbers.vector(gates)),
        bias_hh: config.bias.then(|| numbers.vector(gates)),
        weight_hr: config.proj_size.map(|proj| numbers.matrix(proj, hidden, scale)),
        peepholes: config.peepholes.then(|| numbers.matrix(3, hidden, 1.0)),
        layer_norm: config.layer_norm.map(|_| LayerNormWeights {
            gamma_ih: numbers.vector(gates),
            gamma_hh: numbers.vector(gates),
            gamma_c: numbers.vector(hidden),
            beta_c: numbers.vector(hidden),
        }),
    });
    Arc::new(Lstm::new(config.clone(), cells.collect()).unwrap())
}

/// Runs the call; `y [T, N, D*R]` comes back from an array that held something else.
fn run_cpu(config: &LstmConfig, cpu: &CpuLstm, call: &LstmCall<'_>, state: &mut LstmState) -> Array3<f32> {
    let (seq_len, batch, dirs) = (call.seq_len(), call.batch(), config.num_directions());
    let mut y = Array4::from_elem((seq_len, batch, dirs, config.out_size()), f32::NAN);
    cpu.run(call, state, Some(y.view_mut()));
    y.into_shape_with_order((seq_len, batch, config.y_size())).unwrap()
}

fn configs() -> Vec<LstmConfig> {
    let base = LstmConfig::new(7, 33);
    let both = LstmConfig { num_layers: 2, direction: Direction::Bidirectional, ..base.clone() };
    let odd = CellActivations {
        gate: Activation::HardSigmoid { alpha: 0.2, beta: 0.5 },
        candidate: Activation::Softsign,
        output: Activation::Elu { alpha: 1.0 },
    };
    vec![
        base.clone(),
        LstmConfig { direction: Direction::Reverse, bias: false, num_layers: 3, ..base.clone() },
        LstmConfig { proj_size: Some(5), proj_clip: Some(0.3), ..both.clone() },
        LstmConfig { peepholes: true, clip: Some(1.5), cell_clip: Some(0.75), ..both.clone() },
        LstmConfig { input_forget: true, layer_norm: Some(1e-5), ..both.clone() },
        LstmConfig { activations: [CellActivations::default(), odd], ..both },
        LstmConfig { activations: [odd; 2], num_layers: 2, proj_size: Some(5), peepholes: true, layer_norm: Some(1e-5), ..base },
        LstmConfig::new(300, 130),
        LstmConfig { activations: [odd; 2], ..LstmConfig::new(300, 130) },
    ]
}

/// The stack in float32, whatever its activations.
fn single(lstm: &Lstm) -> CpuLstm {
    let stack = match lstm.config().layer_norm {
        Some(_) => Stack::Single(plain::Stack::new(lstm)),
        None => Stack::Fused(Arc::new(fused::Stack::new(lstm, Precision::F32))),
    };
    CpuLstm { stack }
}

/// The stack in float64 within a step, whatever its activations.
fn double(lstm: &Lstm) -> CpuLstm {
    CpuLstm { stack: Stack::Double(plain::Stack::new(lstm)) }
}

fn random_state(config: &LstmConfig, batch: usize, numbers: &mut Numbers) -> LstmState {
    let cells = config.num_cells();
    LstmState { h: numbers.cube((cells, batch, config.out_size())), c: numbers.cube((cells, batch, config.hidden_size)) }
}

fn bits(array: ArrayView3<'_, f32>) -> Vec<u32> {
    array.iter().map(|value| value.to_bits()).collect()
}

/// The rows from `first` to `end` of a state.
fn rows(state: &LstmState, first: usize, end: usize) -> LstmState {
    LstmState { h: state.h.slice(s![.., first..end, ..]).to_owned(), c: state.c.slice(s![.., first..end, ..]).to_owned() }
}

#[test]
fn a_row_does_not_depend_on_the_batch_the_run_or_the_threads() {
    let (seq_len, batch) = (9, 17);
    let mut numbers = Numbers(1);
    for config in configs() {
        let cpu = CpuLstm::new(&lstm(&config, &mut numbers), Precision::F32).unwrap();
        let x = numbers.cube((seq_len, batch, config.input_size));
        let lens: Vec<u32> = (0..batch as u32).map(|n| (n * 7 + 9) % 10).collect();
        let start = random_state(&config, batch, &mut numbers);
        let run = |first: usize, end: usize| {
            let call = LstmCall { x: x.slice(s![.., first..end, ..]), sequence_lens: Some(&lens[first..end]) };
            let mut state = rows(&start, first, end);
            (run_cpu(&config, &cpu, &call, &mut state), state)
        };
        let (y, state) = run(0, batch);
        let again: Vec<_> = [1, 2, 3, 16]
            .iter()
            .map(|&threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| run(0, batch)))
            .collect();
        for (y_again, state_again) in again {
            assert_eq!(bits(y.view()), bits(y_again.view()), "{config:?}");
            assert_eq!(state, state_again);
        }
        for n in 0..batch {
            let (y_alone, state_alone) = run(n, n + 1);
            assert_eq!(bits(y.slice(s![.., n..=n, ..])), bits(y_alone.view()), "row {n} of {config:?}");
            assert_eq!(rows(&state, n, n + 1), state_alone);
        }
    }
}

/// Few rows, so that threads share every step. While the crew is with another test, one thread has them: then once more.
#[test]
fn threads_that_share_every_step_make_the_same_bits() {
    let (seq_len, batch) = (70, 3);
    let mut numbers = Numbers(11);
    let base = LstmConfig::new(40, 150);
    for config in [
        base.clone(),
        LstmConfig { num_layers: 3, ..base.clone() },
        LstmConfig { num_layers: 2, direction: Direction::Bidirectional, peepholes: true, ..base.clone() },
        LstmConfig { num_layers: 2, direction: Direction::Reverse, proj_size: Some(70), proj_clip: Some(0.1), ..base.clone() },
        LstmConfig { num_layers: 2, direction: Direction::Bidirectional, proj_size: Some(7), cell_clip: Some(0.5), ..base },
    ] {
        let precision = if config.peepholes { Precision::Int8 } else { Precision::F32 };
        let cpu = CpuLstm::new(&lstm(&config, &mut numbers), precision).unwrap();
        let x = numbers.cube((seq_len, batch, config.input_size));
        let lens = [33, 70, 1];
        let start = random_state(&config, batch, &mut numbers);
        let Stack::Fused(stack) = &cpu.stack else { panic!("{config:?} is fused") };
        let run = |members| {
            let (mut state, call) = (start.clone(), LstmCall { x: x.view(), sequence_lens: Some(&lens) });
            let mut y = Array4::from_elem((seq_len, batch, config.num_directions(), config.out_size()), f32::NAN);
            stack.run_planned(&call, &mut state, Some(y.view_mut()), Plan { blocks: 1, members, is_short: false });
            (y.iter().map(|value| value.to_bits()).collect::<Vec<_>>(), state)
        };
        let alone = run(1);
        for members in [2, 3, 5, 2] {
            let led = fused::LED.load(Ordering::SeqCst);
            for _ in 0..1000 {
                assert!(run(members) == alone, "{members} members, {config:?}");
                if fused::LED.load(Ordering::SeqCst) > led {
                    break;
                }
            }
            assert!(fused::LED.load(Ordering::SeqCst) > led, "threads never shared a step");
        }
    }
}

/// The weights are multiplied as they are stored, and each is worth what the reference takes it for.
#[test]
fn stored_weights_are_worth_what_they_are_said_to_be() {
    let mut numbers = Numbers(12);
    for config in configs() {
        let lstm = lstm(&config, &mut numbers);
        let x = numbers.cube((9, 7, config.input_size));
        for precision in [Precision::F16, Precision::Int8] {
            let [stored, worth] = [(&*lstm, precision), (&lstm.stored_as(precision).unwrap(), Precision::F32)].map(|(lstm, precision)| {
                let mut state = LstmState::zeros(&config, 7);
                let cpu = CpuLstm::new(lstm, precision).unwrap();
                let y = run_cpu(&config, &cpu, &LstmCall { x: x.view(), sequence_lens: None }, &mut state);
                (bits(y.view()), state)
            });
            assert!(stored == worth, "{precision}, {config:?}");
        }
    }
}

#[test]
fn two_parts_with_carried_state_are_the_whole() {
    let (batch, seq_len) = (5, 11);
    let mut numbers = Numbers(2);
    for config in configs().into_iter().filter(|config| config.direction == Direction::Forward) {
        let cpu = CpuLstm::new(&lstm(&config, &mut numbers), Precision::F32).unwrap();
        let x = numbers.cube((seq_len, batch, config.input_size));
        let start = random_state(&config, batch, &mut numbers);
        let mut state = start.clone();
        let whole = run_cpu(&config, &cpu, &LstmCall { x: x.view(), sequence_lens: None }, &mut state);
        for cut in [1, 4, 10] {
            let mut carried = start.clone();
            let mut part = |range| run_cpu(&config, &cpu, &LstmCall { x: x.slice(s![range, .., ..]), sequence_lens: None }, &mut carried);
            let parts = [part(0..cut), part(cut..seq_len)];
            let joined = concatenate(Axis(0), &[parts[0].view(), parts[1].view()]).unwrap();
            assert_eq!(bits(whole.view()), bits(joined.view()), "{config:?} cut at {cut}");
            assert_eq!(state, carried);
        }
    }
}

#[test]
fn padding_is_neither_read_nor_written() {
    let (seq_len, batch) = (6, 4);
    let mut numbers = Numbers(3);
    for config in configs() {
        let cpu = CpuLstm::new(&lstm(&config, &mut numbers), Precision::F32).unwrap();
        let mut x = numbers.cube((seq_len, batch, config.input_size));
        let lens = [6u32, 0, 3, 1];
        let start = random_state(&config, batch, &mut numbers);
        for (n, &len) in lens.iter().enumerate() {
            x.slice_mut(s![len as usize.., n, ..]).fill(f32::NAN);
        }
        let mut state = start.clone();
        let y = run_cpu(&config, &cpu, &LstmCall { x: x.view(), sequence_lens: Some(&lens) }, &mut state);
        assert!(y.iter().all(|value| value.is_finite()));
        assert_eq!(rows(&state, 1, 2), rows(&start, 1, 2), "a row of length 0 keeps its state");
        for (n, &len) in lens.iter().enumerate() {
            let len = len as usize;
            assert!(y.slice(s![len.., n, ..]).iter().all(|&value| value == 0.0));
            let mut alone = rows(&start, n, n + 1);
            let y_alone = run_cpu(&config, &cpu, &LstmCall { x: x.slice(s![..len, n..=n, ..]), sequence_lens: None }, &mut alone);
            assert_eq!(bits(y.slice(s![..len, n..=n, ..])), bits(y_alone.view()), "row {n} of {config:?}");
            assert_eq!(rows(&state, n, n + 1), alone);
        }
    }
}

#[test]
fn reverse_is_forward_on_the_reversed_input() {
    let mut numbers = Numbers(4);
    let forward = LstmConfig::new(7, 33);
    let reverse = LstmConfig { direction: Direction::Reverse, ..forward.clone() };
    let weights = lstm(&forward, &mut numbers);
    let reversed = Arc::new(Lstm::new(reverse.clone(), vec![weights.cell(0, 0).clone()]).unwrap());
    let x = numbers.cube((8, 3, 7));
    let (mut a, mut b) = (LstmState::zeros(&forward, 3), LstmState::zeros(&reverse, 3));
    let y = run_cpu(&forward, &CpuLstm::new(&weights, Precision::F32).unwrap(), &LstmCall { x: x.view(), sequence_lens: None }, &mut a);
    let y_reversed = run_cpu(
        &reverse,
        &CpuLstm::new(&reversed, Precision::F32).unwrap(),
        &LstmCall { x: x.slice(s![..;-1, .., ..]), sequence_lens: None },
        &mut b,
    );
    assert_eq!(bits(y.view()), bits(y_reversed.slice(s![..;-1, .., ..])));
    assert_eq!(a, b);
}

#[test]
fn nothing_in_nothing_out() {
    let mut numbers = Numbers(5);
    for config in configs() {
        let cpu = CpuLstm::new(&lstm(&config, &mut numbers), Precision::F32).unwrap();
        for (seq_len, batch) in [(0, 3), (3, 0), (0, 0)] {
            let start = random_state(&config, batch, &mut numbers);
            let mut state = start.clone();
            let x = Array3::zeros((seq_len, batch, config.input_size));
            let y = run_cpu(&config, &cpu, &LstmCall { x: x.view(), sequence_lens: None }, &mut state);
            assert_eq!((y.dim(), state), ((seq_len, batch, config.y_size()), start));
        }
        let start = random_state(&config, 2, &mut numbers);
        let mut state = start.clone();
        let x = numbers.cube((3, 2, config.input_size));
        let y = run_cpu(&config, &cpu, &LstmCall { x: x.view(), sequence_lens: Some(&[0, 0]) }, &mut state);
        assert!(y.iter().all(|&value| value == 0.0));
        assert_eq!(state, start);
    }
}

/// `(v - mean) / sqrt(variance + epsilon)`, written out in float64.
fn normalised(values: &[f64], epsilon: f64) -> Vec<f64> {
    let len = values.len() as f64;
    let mean = values.iter().sum::<f64>() / len;
    let variance = values.iter().map(|value| (value - mean) * (value - mean)).sum::<f64>() / len;
    values.iter().map(|value| (value - mean) / (variance + epsilon).sqrt()).collect()
}

#[test]
fn one_step_with_every_option_is_the_written_equation() {
    let (input, hidden, proj, epsilon) = (3, 4, 2, 1e-3f32);
    for (input_forget, with_norm) in [(false, false), (true, false), (false, true), (true, true)] {
        let config = LstmConfig {
            proj_size: Some(proj),
            peepholes: true,
            clip: Some(0.8),
            cell_clip: Some(0.6),
            proj_clip: Some(0.25),
            input_forget,
            layer_norm: with_norm.then_some(epsilon),
            ..LstmConfig::new(input, hidden)
        };
        let mut numbers = Numbers(6);
        let lstm = lstm(&config, &mut numbers);
        let (x, start) = (numbers.cube((1, 1, input)), random_state(&config, 1, &mut numbers));
        let (h_0, c_0) = (start.h.mapv(f64::from), start.c.mapv(f64::from));

        let cell = lstm.cell(0, 0);
        let bounded = |value: f64, bound: f32| value.clamp(-f64::from(bound), f64::from(bound));
        let product = |matrix: &Array2<f32>, vector: &[f64]| -> Vec<f64> {
            matrix.rows().into_iter().map(|row| row.iter().zip(vector).map(|(&weight, value)| f64::from(weight) * value).sum()).collect()
        };
        let x_0: Vec<f64> = x.iter().map(|&value| f64::from(value)).collect();
        let (mut from_x, mut from_h) = (product(&cell.weight_ih, &x_0), product(&cell.weight_hh, h_0.as_slice().unwrap()));
        if let Some(norm) = &cell.layer_norm {
            let scaled = |values: &[f64], gamma: &Array1<f32>| -> Vec<f64> {
                normalised(values, f64::from(epsilon)).iter().zip(gamma).map(|(value, &gamma)| value * f64::from(gamma)).collect()
            };
            (from_x, from_h) = (scaled(&from_x, &norm.gamma_ih), scaled(&from_h, &norm.gamma_hh));
        }
        let bias = |row: usize| f64::from(cell.bias_ih.as_ref().unwrap()[row]) + f64::from(cell.bias_hh.as_ref().unwrap()[row]);
        let raw = |gate: usize, unit: usize| from_x[gate * hidden + unit] + from_h[gate * hidden + unit] + bias(gate * hidden + unit);
        let peephole = |row: usize, unit: usize| f64::from(cell.peepholes.as_ref().unwrap()[[row, unit]]);
        let sigmoid = |value: f64| 1.0 / (1.0 + (-bounded(value, 0.8)).exp());
        let mut c = Vec::new();
        for unit in 0..hidden {
            let c_prev = c_0[[0, 0, unit]];
            let i = sigmoid(raw(0, unit) + peephole(0, unit) * c_prev);
            let f = if input_forget { 1.0 - i } else { sigmoid(raw(1, unit) + peephole(1, unit) * c_prev) };
            c.push(bounded(f * c_prev + i * bounded(raw(2, unit), 0.8).tanh(), 0.6));
        }
        let out = match &cell.layer_norm {
            None => c.clone(),
            Some(norm) => {
                let scale = |(unit, value): (usize, f64)| value * f64::from(norm.gamma_c[unit]) + f64::from(norm.beta_c[unit]);
                normalised(&c, f64::from(epsilon)).into_iter().enumerate().map(scale).collect()
            }
        };
        let h: Vec<f64> = (0..hidden).map(|unit| sigmoid(raw(3, unit) + peephole(2, unit) * c[unit]) * out[unit].tanh()).collect();
        let projected: Vec<f64> = product(cell.weight_hr.as_ref().unwrap(), &h).iter().map(|&value| bounded(value, 0.25)).collect();
        // float64 leaves one rounding to float32
        for (cpu, atol, rtol) in [(single(&lstm), 2e-6, 0.0), (double(&lstm), 1e-14, 0.5 * f64::from(f32::EPSILON))] {
            let mut state = start.clone();
            let y = run_cpu(&config, &cpu, &LstmCall { x: x.view(), sequence_lens: None }, &mut state);
            for (&actual, &expected) in y.iter().zip(&projected).chain(state.c.iter().zip(&c)).chain(state.h.iter().zip(&projected)) {
                let error = (f64::from(actual) - expected).abs();
                assert!(error <= atol + rtol * expected.abs(), "{actual}, expected {expected}");
            }
        }
    }
}

/// `y [T, H]` of one row through one plain layer with Affine gates, tanh and Elu, from zeros, in float64 from end to end.
fn affine_elu(lstm: &Lstm, (alpha, beta): (f32, f32), x: ArrayView2<'_, f32>) -> Array2<f64> {
    let (cell, hidden) = (lstm.cell(0, 0), lstm.config().hidden_size);
    let wide = |matrix: &Array2<f32>| matrix.mapv(f64::from);
    let (weight_ih, weight_hh) = (wide(&cell.weight_ih), wide(&cell.weight_hh));
    let bias = [&cell.bias_ih, &cell.bias_hh].map(|bias| bias.as_ref().unwrap().mapv(f64::from));
    let affine = |value: f64| f64::from(alpha) * value + f64::from(beta);
    let elu = |value: f64| if value < 0.0 { value.exp_m1() } else { value };
    let (mut h, mut c) = (Array1::<f64>::zeros(hidden), Array1::<f64>::zeros(hidden));
    let mut y = Array2::zeros((x.nrows(), hidden));
    for (x, mut y) in x.rows().into_iter().zip(y.rows_mut()) {
        let raw = weight_ih.dot(&x.mapv(f64::from)) + weight_hh.dot(&h) + &bias[0] + &bias[1];
        for unit in 0..hidden {
            let [i, f, g, o] = [0, 1, 2, 3].map(|gate| raw[gate * hidden + unit]);
            c[unit] = affine(f) * c[unit] + affine(i) * g.tanh();
            h[unit] = affine(o) * elu(c[unit]);
        }
        y.assign(&h);
    }
    y
}

/// 30 steps in which float32 arithmetic loses two digits and the rounding of the state between two steps hardly anything. Measured:
/// errors of 8.2 bounds with float32, 0.18 bounds with float64.
#[test]
fn a_stack_that_amplifies_rounding_stays_close_to_float64() {
    let (alpha, beta, bound) = (0.2, 0.5, 3e-6);
    let activations =
        CellActivations { gate: Activation::Affine { alpha, beta }, candidate: Activation::Tanh, output: Activation::Elu { alpha: 1.0 } };
    let config = LstmConfig { activations: [activations; 2], ..LstmConfig::new(300, 16) };
    let mut numbers = Numbers(8);
    let lstm = lstm(&config, &mut numbers);
    let x = numbers.cube((30, 1, 300));
    let expected = affine_elu(&lstm, (alpha, beta), x.index_axis(Axis(1), 0));
    let worst = |cpu: &CpuLstm| {
        let y = run_cpu(&config, cpu, &LstmCall { x: x.view(), sequence_lens: None }, &mut LstmState::zeros(&config, 1));
        let ratios = y.iter().zip(&expected).map(|(&actual, &expected)| (f64::from(actual) - expected).abs() / (bound * (1.0 + expected.abs())));
        ratios.fold(0.0, f64::max)
    };
    let (shipped, in_single) = (worst(&CpuLstm::new(&lstm, Precision::F32).unwrap()), worst(&single(&lstm)));
    println!("of the bound: {shipped:.3}; in float32: {in_single:.3}");
    assert!(shipped <= 1.0, "{shipped} of the bound");
    assert!(in_single > 1.0, "float32 would do: {in_single} of the bound");
}

#[test]
fn only_stacks_that_amplify_rounding_are_computed_in_float64() {
    let unbounded = CellActivations { output: Activation::Elu { alpha: 1.0 }, ..CellActivations::default() };
    let bounded =
        CellActivations { gate: Activation::HardSigmoid { alpha: 0.2, beta: 0.5 }, candidate: Activation::Relu, output: Activation::Softsign };
    for (activations, direction, in_double) in [
        ([CellActivations::default(); 2], Direction::Bidirectional, false),
        ([bounded; 2], Direction::Bidirectional, false),
        ([bounded, unbounded], Direction::Forward, false),
        ([bounded, unbounded], Direction::Bidirectional, true),
        ([unbounded, bounded], Direction::Forward, true),
    ] {
        let config = LstmConfig { activations, direction, ..LstmConfig::new(3, 4) };
        let cpu = CpuLstm::new(&lstm(&config, &mut Numbers(9)), Precision::F32).unwrap();
        assert_eq!(matches!(cpu.stack, Stack::Double(_)), in_double, "{config:?}");
    }
}
