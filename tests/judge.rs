//! Whether the judge can tell a right LSTM from a wrong one: every mistake that is easily made when an LSTM is written must be
//! rejected at the tolerances that the other tests use. A tolerance that lets one of them pass proves nothing.
//!
//! The wrong LSTMs are made from the reference, by giving it wrong weights, inputs or states, or by joining its layers wrongly.

mod common;

use cellgate::compare::{Tolerance, compare};
use cellgate::{CellWeights, DeviceChoice, Direction, Engine, GATES, Gate, LstmConfig};
use common::GOLDEN;
use common::call::{Call, Results, Rng, widen};
use ndarray::{Array3, Axis, concatenate, s};

const SEQ_LEN: usize = 6;
/// As many rows as steps, so that swapping the two keeps every shape.
const BATCH: usize = 6;
const HIDDEN: usize = 5;

/// What `tests/conformance` holds devices to.
const CONFORMANCE: Tolerance = Tolerance { atol: 1e-5, rtol: 1e-5 };

/// Two layers, both directions, two biases.
fn base() -> Call {
    let config = LstmConfig { num_layers: 2, direction: Direction::Bidirectional, ..LstmConfig::new(HIDDEN, HIDDEN) };
    let mut rng = Rng::new(1);
    Call::random(config, SEQ_LEN, BATCH, &mut rng).with_states(&mut rng)
}

/// The same forward only: the variant whose state can be carried.
fn forward_base() -> Call {
    let config = LstmConfig { num_layers: 2, ..LstmConfig::new(HIDDEN, HIDDEN) };
    Call::random(config, SEQ_LEN, BATCH, &mut Rng::new(2))
}

fn reference(call: &Call) -> Results {
    let engine = Engine::new(DeviceChoice::Reference).expect("the reference is always there");
    call.run(&engine).unwrap_or_else(|error| panic!("{}", error.message().unwrap_or_default()))
}

/// The right results of `call`, with some of the weights of every cell changed.
fn with_weights(change: impl Fn(&mut CellWeights)) -> Results {
    let mut call = base();
    call.cells.iter_mut().for_each(change);
    reference(&call)
}

/// Exchanges the rows of two gates in every tensor that has gates.
fn swap_gates(cell: &mut CellWeights, a: Gate, b: Gate) {
    let (a, b) = (a as usize * HIDDEN, b as usize * HIDDEN);
    let biases = [cell.bias_ih.as_mut(), cell.bias_hh.as_mut()];
    for row in 0..HIDDEN {
        for matrix in [&mut cell.weight_ih, &mut cell.weight_hh] {
            for column in 0..matrix.ncols() {
                matrix.swap([a + row, column], [b + row, column]);
            }
        }
    }
    for bias in biases.into_iter().flatten() {
        (0..HIDDEN).for_each(|row| bias.swap(a + row, b + row));
    }
}

/// A layer-by-layer run of [`base`], so that a layer can be joined wrongly.
struct Layers {
    /// the direction in which the second cell of every layer walks
    second: Direction,
    /// which half of a layer's output comes first in the next layer's input
    first_half: usize,
}

impl Layers {
    fn run(&self, call: &Call) -> Results {
        let mut x = call.x.clone();
        let (mut h_n, mut c_n) = (Vec::new(), Vec::new());
        for layer in 0..call.config.num_layers {
            let halves: Vec<Results> = [Direction::Forward, self.second]
                .into_iter()
                .enumerate()
                .map(|(dir, direction)| {
                    let number = layer * 2 + dir;
                    let state = |states: &Option<Array3<f32>>| states.as_ref().map(|states| states.slice(s![number..=number, .., ..]).to_owned());
                    let config = LstmConfig { direction, ..LstmConfig::new(x.dim().2, HIDDEN) };
                    let cells = vec![call.cells[number].clone()];
                    let (h_0, c_0) = (state(&call.h_0), state(&call.c_0));
                    reference(&Call { config, cells, batch_first: false, x: x.clone(), lens: None, h_0, c_0 })
                })
                .collect();
            let last = layer + 1 == call.config.num_layers;
            let order = if self.first_half == 1 && !last { [1, 0] } else { [0, 1] };
            x = concatenate(Axis(2), &order.map(|half| halves[half].y.view())).expect("halves of one layer").as_standard_layout().into_owned();
            h_n.extend(halves.iter().map(|half| half.h_n.clone()));
            c_n.extend(halves.iter().map(|half| half.c_n.clone()));
        }
        let join = |parts: &[Array3<f32>]| concatenate(Axis(0), &parts.iter().map(|part| part.view()).collect::<Vec<_>>()).expect("one shape");
        Results { y: x, h_n: join(&h_n), c_n: join(&c_n) }
    }
}

/// The worst ratio to the bound over all three tensors, and whether all of them pass.
fn verdict(actual: &Results, expected: &Results, tolerance: Tolerance) -> (bool, f64) {
    let mut all = (true, 0.0_f64);
    for ((_, actual), (_, expected)) in actual.tensors().into_iter().zip(expected.tensors()) {
        let comparison = compare(actual.view().into_dyn(), widen(expected).view(), tolerance);
        all = (all.0 && comparison.passed(), all.1.max(comparison.worst.map_or(0.0, |worst| worst.ratio)));
    }
    all
}

/// Every tensor of the mutant must be rejected, not only some of them, at every tolerance that is used.
fn must_reject(what: &str, mutant: &Results, right: &Results) {
    for tolerance in [GOLDEN, CONFORMANCE] {
        for ((name, mutant), (_, right)) in mutant.tensors().into_iter().zip(right.tensors()) {
            let comparison = compare(mutant.view().into_dyn(), widen(right).view(), tolerance);
            assert!(!comparison.passed(), "{what}: {name} passes at {tolerance:?}");
        }
    }
    let (_, ratio) = verdict(mutant, right, GOLDEN);
    println!("{what}: rejected at {ratio:.0} times the golden bound");
    // a mutant near the bound would say more about these weights than about the tolerance
    assert!(ratio > 100.0, "{what}: only {ratio:.1} times the bound");
}

#[test]
fn the_right_one_is_accepted() {
    let right = reference(&base());
    let engine = Engine::new(DeviceChoice::Cpu).expect("the CPU is always there");
    let cpu = base().run(&engine).unwrap_or_else(|error| panic!("{}", error.message().unwrap_or_default()));
    for tolerance in [GOLDEN, CONFORMANCE] {
        let (passed, ratio) = verdict(&cpu, &right, tolerance);
        println!("cpu: {ratio:.4} of the bound of {tolerance:?}");
        assert!(passed, "the CPU is rejected at {ratio} times the bound of {tolerance:?}");
        assert!(verdict(&right, &right, tolerance).0);
    }
}

#[test]
fn joining_layers_by_hand_gives_the_stack() {
    // what mutants 5 and 8 change about `Layers` is then what they are rejected for
    let by_hand = Layers { second: Direction::Reverse, first_half: 0 }.run(&base());
    let (passed, ratio) = verdict(&by_hand, &reference(&base()), CONFORMANCE);
    assert!(passed, "{ratio} times the bound");
}

#[test]
fn mutant_1_input_and_forget_gates_swapped() {
    let mutant = with_weights(|cell| swap_gates(cell, Gate::I, Gate::F));
    must_reject("i and f swapped", &mutant, &reference(&base()));
}

#[test]
fn mutant_2_candidate_and_output_gate_swapped() {
    let mutant = with_weights(|cell| swap_gates(cell, Gate::G, Gate::O));
    must_reject("g and o swapped", &mutant, &reference(&base()));
}

#[test]
fn mutant_3_recurrent_weights_transposed() {
    let mutant = with_weights(|cell| {
        for gate in 0..GATES {
            let mut block = cell.weight_hh.slice_mut(s![gate * HIDDEN..(gate + 1) * HIDDEN, ..]);
            let transposed = block.t().to_owned();
            block.assign(&transposed);
        }
    });
    must_reject("weight_hh transposed", &mutant, &reference(&base()));
}

#[test]
fn mutant_4_second_bias_dropped() {
    let mutant = with_weights(|cell| cell.bias_hh.as_mut().expect("the base has biases").fill(0.0));
    must_reject("bias_hh dropped", &mutant, &reference(&base()));
}

#[test]
fn mutant_5_reverse_direction_not_reversed() {
    let mutant = Layers { second: Direction::Forward, first_half: 0 }.run(&base());
    must_reject("reverse direction not reversed", &mutant, &reference(&base()));
}

#[test]
fn mutant_6_state_not_carried() {
    let call = forward_base();
    let (first, second) = (reference(&call.steps(0, SEQ_LEN / 2)), reference(&call.steps(SEQ_LEN / 2, SEQ_LEN)));
    let y = concatenate(Axis(0), &[first.y.view(), second.y.view()]).expect("halves of one call");
    must_reject("state not carried", &Results { y, ..second }, &reference(&call));
}

#[test]
fn mutant_7_batch_and_time_swapped() {
    let swapped = |array: &Array3<f32>| array.view().permuted_axes([1, 0, 2]).as_standard_layout().into_owned();
    let mut call = base();
    call.x = swapped(&call.x);
    let mutant = reference(&call);
    must_reject("batch and time swapped", &Results { y: swapped(&mutant.y), ..mutant }, &reference(&base()));
}

#[test]
fn mutant_8_layer_input_from_the_wrong_direction() {
    let mutant = Layers { second: Direction::Reverse, first_half: 1 }.run(&base());
    // the first layer is right, so h_n and c_n are wrong in the second one only
    must_reject("layer input taken from the wrong direction", &mutant, &reference(&base()));
}
