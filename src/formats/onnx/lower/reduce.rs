//! Operators along axes.

use ndarray::{Array1, arr1};

use super::{Draft, ends, float, float_of, input, int, int_of, ints};
use crate::error::{Error, Result};
use crate::formats::onnx::proto::NodeProto;

/// Where `Softmax` became one along a single axis.
const SOFTMAX_OF_ONE_AXIS: i64 = 13;

/// Where `GroupNormalization` got scales for channels instead of groups.
const SCALES_OF_CHANNELS: i64 = 21;

impl Draft<'_, '_> {
    /// The old form is one over all axes from `axis` on, as if they were one.
    pub(super) fn softmax(&mut self, node: NodeProto) {
        let axis = int_of(&node, "axis", 1);
        let is_old = self.lowering.opset < SOFTMAX_OF_ONE_AXIS;
        let (true, Ok((x, y))) = (is_old && axis != -1, ends(&node)) else { return self.nodes.push(node) };
        let shape = self.node("Shape", &[x], &[]);
        let flat = self.node("Flatten", &[x], &[int("axis", axis)]);
        let soft = self.node(&node.op_type, &[&flat], &[int("axis", -1)]);
        self.node_to("Reshape", &[&soft, &shape], &[int("allowzero", 1)], y);
    }

    /// Of equal elements the library takes the last one; its `TopK` takes the first.
    pub(super) fn arg_max(&mut self, node: NodeProto) {
        let Ok((x, y)) = ends(&node) else { return self.nodes.push(node) };
        let axis = int_of(&node, "axis", 0);
        let from_behind = int_of(&node, "select_last_index", 0) != 0;
        let keep = int_of(&node, "keepdims", 1) != 0;
        let reversed = from_behind.then(|| {
            let (start, end, step, axes) = (self.numbers(&[-1]), self.numbers(&[i64::MIN]), self.numbers(&[-1]), self.numbers(&[axis]));
            self.node("Slice", &[x, &start, &end, &axes, &step], &[])
        });
        let one = self.numbers(&[1]);
        // the last of these steps makes `y`
        let (largest, place) = (self.fresh(), if keep && !from_behind { y.to_owned() } else { self.fresh() });
        let attributes = [int("axis", axis), int("largest", i64::from(node.op_type == "ArgMax"))];
        self.node_to("TopK", &[reversed.as_deref().unwrap_or(x), &one], &attributes, &largest);
        self.nodes.iter_mut().last().into_iter().for_each(|node| node.output.push(place.clone()));
        let mut found = place;
        if from_behind {
            let shape = self.node("Shape", &[x], &[]);
            let axis = self.numbers(&[axis]);
            let len = self.node("Gather", &[&shape, &axis], &[]);
            let last = self.node("Sub", &[&len, &one], &[]);
            let place = if keep { y.to_owned() } else { self.fresh() };
            self.node_to("Sub", &[&last, &found], &[], &place);
            found = place;
        }
        if !keep {
            self.node_to("Squeeze", &[&found], &[ints("axes", &[axis])], y);
        }
    }

    /// `(x - mean) / (sqrt(variance) + 1e-9)`.
    pub(super) fn mean_variance_normalization(&mut self, node: &NodeProto) {
        let Ok((x, y)) = ends(node) else { return self.nodes.push(node.clone()) };
        let axes = ints("axes", node.attribute("axes").map_or(&[0, 2, 3], |axes| axes.ints.as_slice()));
        let keep = int("keepdims", 1);
        let least = self.float(1e-9);
        let mean = self.node("ReduceMean", &[x], &[axes.clone(), keep.clone()]);
        let centred = self.node("Sub", &[x, &mean], &[]);
        let squares = self.node("Mul", &[&centred, &centred], &[]);
        let variance = self.node("ReduceMean", &[&squares], &[axes, keep]);
        let deviation = self.node("Sqrt", &[&variance], &[]);
        let deviation = self.node("Add", &[&deviation, &least], &[]);
        self.node_to("Div", &[&centred, &deviation], &[], y);
    }

    /// An `InstanceNormalization` of `[N, groups, rest]`.
    pub(super) fn group_normalization(&mut self, node: &NodeProto) -> Result<()> {
        let (x, y) = ends(node)?;
        let (Some(scale), Some(bias)) = (input(node, 1), input(node, 2)) else {
            return Err(Error::format("GroupNormalization: expected a scale and a bias, found none"));
        };
        let groups = int_of(node, "num_groups", 0);
        let len = usize::try_from(groups).ok().filter(|len| (1..=1 << 20).contains(len));
        let len = len.ok_or_else(|| Error::config(format!("GroupNormalization: expected 1 group or more, found {groups}")))?;
        let epsilon = float("epsilon", float_of(node, "epsilon", 1e-5));
        let whole = self.node("Shape", &[x], &[]);
        let grouped = self.numbers(&[0, groups, -1]);
        let grouped = self.node("Reshape", &[x, &grouped], &[]);
        if self.lowering.opset < SCALES_OF_CHANNELS {
            let normal = self.node("InstanceNormalization", &[&grouped, scale, bias], &[epsilon]);
            self.node_to("Reshape", &[&normal, &whole], &[int("allowzero", 1)], y);
            return Ok(());
        }
        let (one, zero) = (self.constant(Array1::<f32>::ones(len)), self.constant(Array1::<f32>::zeros(len)));
        let normal = self.node("InstanceNormalization", &[&grouped, &one, &zero], &[epsilon]);
        let (from, to, same, rest) = (self.numbers(&[1]), self.numbers(&[2]), self.numbers(&[0]), self.numbers(&[-1]));
        let channels = self.node("Slice", &[&whole, &from, &to, &same], &[]);
        let by_channel = self.node("Concat", &[&same, &channels, &rest], &[int("axis", 0)]);
        let normal = self.node("Reshape", &[&normal, &by_channel], &[]);
        let column = self.constant(arr1(&[-1_i64, 1]));
        let [scale, bias] = [scale, bias].map(|name| self.node("Reshape", &[name, &column], &[]));
        let scaled = self.node("Mul", &[&normal, &scale], &[]);
        let moved = self.node("Add", &[&scaled, &bias], &[]);
        self.node_to("Reshape", &[&moved, &whole], &[int("allowzero", 1)], y);
        Ok(())
    }
}
