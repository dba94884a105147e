//! ONNX Runtime's `DynamicQuantizeLSTM`: an LSTM whose weights are integers with scales, as the `LSTM` whose weights are worth the same.

use std::collections::BTreeSet;

use ndarray::{Array3, ArrayD, Ix3};

use super::constants::Constants;
use super::graph::{Block, Node};
use super::proto::AttributeProto;
use crate::error::{Error, Result};
use crate::tensor::TensorView;

/// Where the operator has what beside the inputs of an `LSTM`.
const W_SCALE: usize = 8;
const W_ZERO_POINT: usize = 9;
const R_SCALE: usize = 10;
const R_ZERO_POINT: usize = 11;

/// The inputs that it has in common with `LSTM`.
const COMMON_INPUTS: usize = 8;

/// What a user should know of every such node.
const MEANING: &str = "each worth exactly (integer - zero point) * scale; ONNX Runtime also quantises activations while it runs, which is not done \
                       here, so results differ by up to about 1e-2; precision int8 stores the weights as integers again";

/// Puts `LSTM` nodes in the place of those with integer weights, in all blocks; notes on what was done come back.
pub(super) fn widen(block: &mut Block, constants: &mut Constants) -> Result<Vec<String>> {
    let mut taken = BTreeSet::new();
    block.each(&mut |node| taken.extend(node.makes().chain(node.reads()).map(str::to_owned)));
    let mut notes = Vec::new();
    nodes(block, constants, &mut taken, &mut notes)?;
    Ok(notes)
}

fn nodes(block: &mut Block, constants: &mut Constants, taken: &mut BTreeSet<String>, notes: &mut Vec<String>) -> Result<()> {
    for node in &mut block.nodes {
        for branch in node.branches.iter_mut().flat_map(|branches| branches.iter_mut()) {
            nodes(branch, constants, taken, notes)?;
        }
        if node.proto.domain == "com.microsoft" && node.proto.op_type == "DynamicQuantizeLSTM" {
            let label = node.proto.label();
            let found = lstm(node, constants, taken).map_err(|error| error.within(&label))?;
            notes.push(format!("{label}: {found} weights with scales, {MEANING}"));
        }
    }
    Ok(())
}

/// Changes the node into an `LSTM`; the element type of its weights comes back.
fn lstm(node: &mut Node, constants: &mut Constants, taken: &mut BTreeSet<String>) -> Result<String> {
    let required = |place: usize, what: &str| {
        let name = node.input(place).ok_or_else(|| Error::format(format!("expected an input {what}, found none")))?;
        if constants.contains(name) {
            return Ok(name.to_owned());
        }
        Err(Error::config(format!("tensor `{name}`: expected {what} as a constant, found one of the call; that is not supported yet")))
    };
    let [w, r] = [required(1, "W")?, required(2, "R")?];
    let scales = [required(W_SCALE, "W_scale")?, required(R_SCALE, "R_scale")?];
    let zero_points = [(W_ZERO_POINT, "W_zero_point"), (R_ZERO_POINT, "R_zero_point")];
    let zero_points = zero_points.map(|(place, what)| node.input(place).is_some().then(|| required(place, what)).transpose());
    let [w_zero, r_zero] = zero_points;
    let element_type = constants.get(&w)?.element_type().to_string();
    let weights = [(&w, &scales[0], w_zero?), (&r, &scales[1], r_zero?)];
    for (place, (name, scale, zero_point)) in (1..).zip(weights) {
        let array = dequantised(name, scale, zero_point.as_deref(), constants)?;
        let plain = format!("{name}.float32");
        let numbered = (2..).map(|number| format!("{plain}.{number}"));
        let fresh = |fresh: &String| !taken.contains(fresh) && !constants.contains(fresh);
        let output = std::iter::once(plain.clone()).chain(numbered).find(fresh).unwrap_or_default();
        constants.insert_made(&output, array.into());
        constants.forget(name);
        taken.insert(output.clone());
        node.proto.input[place] = output;
    }
    node.proto.input.truncate(COMMON_INPUTS);
    node.proto.domain.clear();
    "LSTM".clone_into(&mut node.proto.op_type);
    // a leftover of the float operator in files of some versions
    node.proto.attribute.retain(|attribute: &AttributeProto| attribute.name != "output_sequence");
    Ok(element_type)
}

/// `[D, 4H, I]` of the integers `name`, `[D, I, 4H]`. Scales and zero points are `[D]`, one number, or `[D, 4H]`.
fn dequantised(name: &str, scale: &str, zero_point: Option<&str>, constants: &mut Constants) -> Result<ArrayD<f32>> {
    let integers = widened(name, constants)?;
    let integers = integers.into_dimensionality::<Ix3>().map_err(|error| {
        Error::shape(format!("tensor `{name}`: expected [num_directions, input_size, 4*hidden_size], found another number of axes ({error})"))
    })?;
    let (dirs, _, outputs) = integers.dim();
    let mut per_output = |name: &str| -> Result<ArrayD<f32>> {
        let values = widened(name, constants)?;
        let fits = values.len() == 1 || values.shape() == [dirs] || values.shape() == [dirs, outputs];
        if fits {
            return Ok(values);
        }
        let found = values.shape();
        Err(Error::shape(format!(
            "tensor `{name}`: expected [num_directions] or [num_directions, 4*hidden_size] = [{dirs}, {outputs}], found {found:?}"
        )))
    };
    let scales = per_output(scale)?;
    let zero_points = zero_point.map(&mut per_output).transpose()?;
    let at = |values: &ArrayD<f32>, dir: usize, output: usize| match values.ndim() {
        _ if values.len() == 1 => values.first().copied().unwrap_or_default(),
        2 => values[[dir, output]],
        _ => values[[dir]],
    };
    let worth = |(dir, output, input): (usize, usize, usize)| {
        let zero_point = zero_points.as_ref().map_or(0.0, |zero_points| at(zero_points, dir, output));
        (integers[[dir, input, output]] - zero_point) * at(&scales, dir, output)
    };
    let (dirs, inputs, outputs) = integers.dim();
    Ok(Array3::from_shape_fn((dirs, outputs, inputs), worth).into_dyn())
}

/// A constant of integers of eight bits or of `float32` as `float32`.
fn widened(name: &str, constants: &mut Constants) -> Result<ArrayD<f32>> {
    match constants.get(name)? {
        TensorView::I8(values) => Ok(values.mapv(f32::from)),
        TensorView::U8(values) => Ok(values.mapv(f32::from)),
        TensorView::F32(values) => Ok(values.to_owned()),
        other => Err(Error::shape(format!("tensor `{name}`: expected int8, uint8 or float32, found {}", other.element_type()))),
    }
}
