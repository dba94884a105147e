//! Operators that treat every element by itself.

use super::{Draft, ends, fill, float, float_of, input, int, int_of};
use crate::error::{Error, Result};
use crate::formats::onnx::proto::NodeProto;
use crate::formats::onnx::tensor::{BOOL, FLOAT, INT32};
use crate::tensor::ElementType;

/// Where the mask of `Dropout` began to say what is kept.
const MASK_OF_KEPT: i64 = 12;

impl Draft<'_, '_> {
    /// A cast to `bool` keeps the numbers in the library, which has no such type: `Not(x == 0)`. Of NaN that is true.
    pub(super) fn cast(&mut self, node: NodeProto) {
        let to_bool = match node.op_type.as_str() {
            "Cast" => int_of(&node, "to", 0) == i64::from(BOOL),
            _ => input(&node, 1).is_some_and(|like| self.lowering.element_type(like) == Some(ElementType::Bool)),
        };
        let (true, Ok((x, y))) = (to_bool, ends(&node)) else { return self.nodes.push(node) };
        // whole numbers other than 0 are none as floats either
        let number = self.node("Cast", &[x], &[int("to", FLOAT.into())]);
        let zero = self.float(0.0);
        let is_zero = self.node("Equal", &[&number, &zero], &[]);
        self.node_to("Not", &[&is_zero], &[], y);
    }

    pub(super) fn activation(&mut self, node: &NodeProto) -> Result<()> {
        let (x, y) = ends(node)?;
        match node.op_type.as_str() {
            "Sign" => {
                let zero = self.float(0.0);
                let zero = self.node("CastLike", &[&zero, x], &[]);
                let above = self.node("Greater", &[x, &zero], &[]);
                let below = self.node("Less", &[x, &zero], &[]);
                let signs = [above, below].map(|is| self.node("Cast", &[&is], &[int("to", INT32.into())]));
                let sign = self.node("Sub", &[&signs[0], &signs[1]], &[]);
                self.node_to("CastLike", &[&sign, x], &[], y);
            }
            "Softplus" => self.softplus(x, y),
            "Mish" => {
                let soft = self.fresh();
                self.softplus(x, &soft);
                let gate = self.node("Tanh", &[&soft], &[]);
                self.node_to("Mul", &[x, &gate], &[], y);
            }
            "Selu" => {
                let elu = self.node("Elu", &[x], &[float("alpha", float_of(node, "alpha", 1.673_263_2))]);
                let gamma = self.float(float_of(node, "gamma", 1.050_701));
                self.node_to("Mul", &[&elu, &gamma], &[], y);
            }
            "Celu" => {
                // max(0, x) + min(0, alpha * (exp(x / alpha) - 1))
                let alpha = self.float(float_of(node, "alpha", 1.0));
                let (one, zero) = (self.float(1.0), self.float(0.0));
                let scaled = self.node("Div", &[x, &alpha], &[]);
                let power = self.node("Exp", &[&scaled], &[]);
                let below = self.node("Sub", &[&power, &one], &[]);
                let below = self.node("Mul", &[&below, &alpha], &[]);
                let below = self.node("Min", &[&below, &zero], &[]);
                let above = self.node("Max", &[x, &zero], &[]);
                self.node_to("Add", &[&above, &below], &[], y);
            }
            "ThresholdedRelu" => {
                let (alpha, zero) = (self.float(float_of(node, "alpha", 1.0)), self.float(0.0));
                let above = self.node("Greater", &[x, &alpha], &[]);
                self.node_to("Where", &[&above, x, &zero], &[], y);
            }
            _ => {
                // Shrink
                let (bound, bias) = (float_of(node, "lambd", 0.5), float_of(node, "bias", 0.0));
                let (high, low, bias, zero) = (self.float(bound), self.float(-bound), self.float(bias), self.float(0.0));
                let above = self.node("Greater", &[x, &high], &[]);
                let less = self.node("Sub", &[x, &bias], &[]);
                let upper = self.node("Where", &[&above, &less, &zero], &[]);
                let below = self.node("Less", &[x, &low], &[]);
                let more = self.node("Add", &[x, &bias], &[]);
                self.node_to("Where", &[&below, &more, &upper], &[], y);
            }
        }
        Ok(())
    }

    /// `max(x, 0) + ln(1 + exp(-|x|))`, which overflows nowhere.
    fn softplus(&mut self, x: &str, y: &str) {
        let (one, zero) = (self.float(1.0), self.float(0.0));
        let size = self.node("Abs", &[x], &[]);
        let below = self.node("Neg", &[&size], &[]);
        let power = self.node("Exp", &[&below], &[]);
        let sum = self.node("Add", &[&power, &one], &[]);
        let rest = self.node("Log", &[&sum], &[]);
        let above = self.node("Max", &[x, &zero], &[]);
        self.node_to("Add", &[&above, &rest], &[], y);
    }

    /// The library has no power of a float to a whole number.
    pub(super) fn pow(&mut self, mut node: NodeProto) {
        let types = [0, 1].map(|place| input(&node, place).and_then(|name| self.lowering.element_type(name)));
        let is_float = |element_type| matches!(element_type, ElementType::F32 | ElementType::F64);
        let [base, Some(exponent)] = types else { return self.nodes.push(node) };
        if is_float(exponent) || base.is_some_and(|base| !is_float(base)) {
            return self.nodes.push(node);
        }
        let exponent = match base {
            Some(_) => self.node("Cast", &[&node.input[1].clone()], &[int("to", FLOAT.into())]),
            None => self.node("CastLike", &[&node.input[1].clone(), &node.input[0].clone()], &[]),
        };
        node.input[1] = exponent;
        self.nodes.push(node);
    }

    /// Nothing is dropped where nothing is trained.
    pub(super) fn dropout(&mut self, node: &NodeProto) -> Result<()> {
        let (x, y) = ends(node)?;
        if let Some(training) = input(node, 2)
            && self.lowering.numbers(training) != Some(&[0])
        {
            return Err(Error::config(format!(
                "Dropout: expected no training, found `training_mode` in `{training}`, which is not known to be false"
            )));
        }
        if let Some(mask) = node.output.get(1) {
            if self.lowering.opset < MASK_OF_KEPT {
                return Err(Error::config(format!("Dropout: expected one output in opset {}, found a mask, `{mask}`", self.lowering.opset)));
            }
            let shape = self.node("Shape", &[x], &[]);
            self.node_to("ConstantOfShape", &[&shape], &[fill(1)], mask);
        }
        self.node_to("Identity", &[x], &[], y);
        Ok(())
    }
}
