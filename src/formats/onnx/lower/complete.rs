//! What a node may leave out and the library wants: attributes, axes, zero points.

use ndarray::{Array1, arr0};

use super::{Draft, fill, float, input, int, ints};
use crate::error::Result;
use crate::formats::onnx::proto::NodeProto;
use crate::formats::onnx::tensor::UINT8;

/// Operators whose later outputs the library does not make.
const ONE_OUTPUT: &[&str] = &["Dropout", "LayerNormalization", "MaxPool", "SkipLayerNormalization", "SkipSimplifiedLayerNormalization"];

/// What `SkipLayerNormalization` and its like add to a variance unless they say otherwise.
const SKIP_EPSILON: f32 = 1e-12;

/// A tensor may have this many axes for those of a slice to be written down.
const MOST_AXES: i64 = 64;

/// Where scales of `QuantizeLinear` could be along an axis.
const SCALES_OF_AXES: i64 = 13;

impl Draft<'_, '_> {
    /// Leaves out outputs that nobody reads, which exporters list all the same.
    pub(super) fn drop_unread_outputs(&self, node: &mut NodeProto) {
        if !ONE_OUTPUT.contains(&node.op_type.as_str()) {
            return;
        }
        node.output.iter_mut().skip(1).filter(|name| !self.lowering.read.contains(*name)).for_each(String::clear);
        while node.output.len() > 1 && node.output.last().is_some_and(String::is_empty) {
            node.output.pop();
        }
    }

    /// As [`Draft::complete`], for operators of ONNX Runtime's domain.
    pub(super) fn complete_microsoft(&mut self, mut node: NodeProto) {
        if node.op_type.starts_with("Skip") && node.attribute("epsilon").is_none() {
            node.attribute.push(float("epsilon", SKIP_EPSILON));
        }
        self.nodes.push(node);
    }

    /// Writes what the node leaves out.
    pub(super) fn complete(&mut self, mut node: NodeProto) -> Result<()> {
        match node.op_type.as_str() {
            "Conv" | "ConvInteger" | "ConvTranspose" => self.convolution(&mut node),
            "MaxPool" | "AveragePool" => {
                let rank = node.attribute("kernel_shape").map_or(0, |kernel| kernel.ints.len());
                set_default(&mut node, "strides", vec![1; rank]);
            }
            "Slice" => self.slice(&mut node),
            "Squeeze" | "Unsqueeze" => self.axes(&mut node),
            "Pad" => self.pad(&mut node),
            "QuantizeLinear" => self.quantize(&mut node),
            "STFT" => self.frame_length(&mut node),
            _ => {}
        }
        self.nodes.push(node);
        Ok(())
    }

    /// The library takes the number of axes from `kernel_shape` alone.
    fn convolution(&self, node: &mut NodeProto) {
        let known = |name: &str| node.attribute(name).map(|attribute| attribute.ints.len()).filter(|&len| len > 0);
        let weight = input(node, 1).and_then(|name| self.lowering.known.get(name)).and_then(|weight| weight.dims.get(2..).map(<[i64]>::to_vec));
        let rank = known("kernel_shape").or_else(|| weight.as_ref().map(Vec::len));
        let rank = rank.or_else(|| known("strides")).or_else(|| known("dilations")).or_else(|| known("pads").map(|len| len / 2));
        let Some(rank) = rank else { return };
        if let Some(kernel) = weight {
            set_default(node, "kernel_shape", kernel);
        }
        set_default(node, "strides", vec![1; rank]);
        set_default(node, "dilations", vec![1; rank]);
        if node.attribute("auto_pad").is_none_or(|auto_pad| auto_pad.s.is_empty() || auto_pad.s == b"NOTSET") {
            set_default(node, "pads", vec![0; 2 * rank]);
        }
    }

    /// Without axes, starts and ends are those of the first ones.
    fn slice(&mut self, node: &mut NodeProto) {
        if let Some(starts) = node.attribute("starts") {
            let axes = (0_i64..).take(starts.ints.len()).collect();
            return set_default(node, "axes", axes);
        }
        let (None, Some(starts)) = (input(node, 3), input(node, 1)) else { return };
        let axes = match self.lowering.known.get(starts).map(|known| known.dims.as_slice()) {
            Some(&[len]) if len <= MOST_AXES => self.constant(Array1::from_iter(0..len)),
            _ => {
                let starts = starts.to_owned();
                let shape = self.node("Shape", &[&starts], &[]);
                let len = self.node("Squeeze", &[&shape], &[]);
                let (zero, one) = (self.constant(arr0(0_i64)), self.constant(arr0(1_i64)));
                self.node("Range", &[&zero, &len, &one], &[])
            }
        };
        node.input.resize(node.input.len().max(4), String::new());
        node.input[3] = axes;
    }

    /// One axis may come without a list around it.
    fn axes(&mut self, node: &mut NodeProto) {
        let Some(axes) = input(node, 1).filter(|name| self.lowering.known.get(*name).is_some_and(|known| known.dims.is_empty())) else { return };
        if let Some(&[axis]) = self.lowering.numbers(axes) {
            node.input[1] = self.numbers(&[axis]);
        }
    }

    /// Pads of some axes as pads of all, zero at the others.
    fn pad(&mut self, node: &mut NodeProto) {
        let (Some(x), Some(pads), Some(axes)) = (input(node, 0), input(node, 1), input(node, 3)) else { return };
        let (x, pads, axes) = (x.to_owned(), pads.to_owned(), axes.to_owned());
        let shape = self.node("Shape", &[&x], &[]);
        let rank = self.node("Shape", &[&shape], &[]);
        let (zero, two) = (self.numbers(&[0]), self.numbers(&[2]));
        let is_negative = self.node("Less", &[&axes, &zero], &[]);
        let from_end = self.node("Add", &[&axes, &rank], &[]);
        let begins = self.node("Where", &[&is_negative, &from_end, &axes], &[]);
        let ends = self.node("Add", &[&begins, &rank], &[]);
        let places = self.node("Concat", &[&begins, &ends], &[int("axis", 0)]);
        let len = self.node("Mul", &[&rank, &two], &[]);
        let none = self.node("ConstantOfShape", &[&len], &[fill(0)]);
        node.input[1] = self.node("ScatterElements", &[&none, &places, &pads], &[int("axis", 0)]);
        node.input.truncate(3);
    }

    /// Several scales are along axis 1, and no zero point is one of 0.
    fn quantize(&mut self, node: &mut NodeProto) {
        let Some(scale) = input(node, 1).and_then(|name| self.lowering.known.get(name)).cloned() else { return };
        let is_list = scale.dims.iter().any(|&dim| dim != 1);
        if is_list && self.lowering.opset >= SCALES_OF_AXES && node.attribute("axis").is_none() {
            node.attribute.push(int("axis", 1));
        }
        if input(node, 2).is_some() || node.attribute("output_dtype").is_some() {
            return;
        }
        // a zero point has the axes of its scale
        let scale = node.input[1].clone();
        let shape = self.node("Shape", &[&scale], &[]);
        let zeros = self.node("ConstantOfShape", &[&shape], &[fill(0)]);
        let zero = self.node("Cast", &[&zeros], &[int("to", UINT8.into())]);
        node.input.resize(3, String::new());
        node.input[2] = zero;
    }

    /// The library does not compare a window with the signal, only a length that it is given.
    fn frame_length(&mut self, node: &mut NodeProto) {
        let (Some(window), None) = (input(node, 2), input(node, 3)) else { return };
        let window = window.to_owned();
        let shape = self.node("Shape", &[&window], &[]);
        node.input.resize(4, String::new());
        node.input[3] = self.node("Squeeze", &[&shape], &[]);
    }
}

fn set_default(node: &mut NodeProto, name: &str, values: Vec<i64>) {
    if !values.is_empty() && node.attribute(name).is_none() {
        node.attribute.push(ints(name, &values));
    }
}
