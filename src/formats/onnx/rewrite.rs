//! Operators that ONNX Runtime fuses when it saves what it made of a graph, as the operators of the specification that they are made of.
//!
//! What cannot be said that way stays, and whoever runs it says what is wrong with it.

use std::collections::BTreeSet;

use ndarray::arr0;

use super::constants::Constants;
use super::graph::{Block, Node};
use super::proto::{AttributeKind, AttributeProto, NodeProto};

/// ONNX Runtime's own operators.
const DOMAIN: &str = "com.microsoft";

/// The opset from which on the bounds of `Clip` are inputs.
const CLIP_INPUT_OPSET: i64 = 11;

/// Rewrites all nodes of `block` and of blocks within it.
pub(super) fn fused(block: &mut Block, constants: &mut Constants, opset: i64) {
    let (mut taken, mut found) = (BTreeSet::new(), false);
    block.each(&mut |node| {
        found |= node.proto.domain == DOMAIN;
        taken.extend(node.makes().chain(node.reads()).map(str::to_owned));
    });
    if found {
        nodes(block, &mut Writer { constants, opset, taken, nodes: Vec::new() });
    }
}

fn nodes(block: &mut Block, writer: &mut Writer<'_>) {
    let mut kept = Vec::with_capacity(block.nodes.len());
    for mut node in std::mem::take(&mut block.nodes) {
        node.branches.iter_mut().flat_map(|branches| branches.iter_mut()).for_each(|branch| nodes(branch, writer));
        let rewritten = if node.proto.domain == DOMAIN { writer.rewrite(&node) } else { None };
        let made = std::mem::take(&mut writer.nodes);
        match rewritten {
            Some(()) => kept.extend(made),
            None => kept.push(node),
        }
    }
    block.nodes = kept;
}

struct Writer<'a> {
    constants: &'a mut Constants,
    opset: i64,
    taken: BTreeSet<String>,
    /// those in the place of the node at hand
    nodes: Vec<Node>,
}

impl Writer<'_> {
    /// Adds the nodes that `node` is made of; `None` where it is not known how.
    fn rewrite(&mut self, node: &Node) -> Option<()> {
        let (input, output) = (node.input(0)?.to_owned(), node.output(0)?.to_owned());
        let extra = node.makes().nth(1).is_some();
        match node.proto.op_type.as_str() {
            _ if extra => None,
            "FusedConv" => {
                let (mut inputs, added) = (node.proto.input.clone(), node.input(3).map(str::to_owned));
                inputs.truncate(3);
                let attributes = without(node, &["activation", "activation_params"]);
                let product = self.made("Conv", inputs, node, attributes);
                let sum = match added {
                    Some(added) => self.made("Add", vec![product, added], node, Vec::new()),
                    None => product,
                };
                self.activate(node, "activation_params", sum, output)
            }
            "FusedGemm" => {
                let attributes = without(node, &["activation", "activation_alpha", "activation_beta", "activation_gamma"]);
                let product = self.made("Gemm", node.proto.input.clone(), node, attributes);
                self.activate(node, "", product, output)
            }
            "FusedMatMul" => self.matmul(node, input, output),
            "Gelu" => {
                let halved = self.times(node, &input, std::f32::consts::FRAC_1_SQRT_2);
                let erf = self.made("Erf", vec![halved], node, Vec::new());
                self.gelu(node, input, erf, output)
            }
            "BiasGelu" => {
                let sum = self.made("Add", vec![input, node.input(1)?.to_owned()], node, Vec::new());
                let halved = self.times(node, &sum, std::f32::consts::FRAC_1_SQRT_2);
                let erf = self.made("Erf", vec![halved], node, Vec::new());
                self.gelu(node, sum, erf, output)
            }
            "FastGelu" => self.fast_gelu(node, input, output),
            "QuickGelu" => {
                let alpha = node.proto.attribute("alpha").map_or(1.702, |attribute| attribute.f);
                let scaled = self.times(node, &input, alpha);
                let gate = self.made("Sigmoid", vec![scaled], node, Vec::new());
                self.put("Mul", vec![input, gate], output, Vec::new());
                Some(())
            }
            _ => None,
        }
    }

    /// `alpha * A' * B'`; only a matrix is turned, as the axes of others are not known.
    fn matmul(&mut self, node: &Node, left: String, output: String) -> Option<()> {
        let flag = |name: &str| node.proto.attribute(name).is_some_and(|attribute| attribute.i != 0);
        let right = node.input(1)?.to_owned();
        if flag("transBatchA") || flag("transBatchB") {
            return None;
        }
        let mut turned = |name: String, turn: bool| -> Option<String> {
            if !turn {
                return Some(name);
            }
            let is_matrix = self.constants.shape(&name).is_some_and(|shape| shape.len() == 2);
            is_matrix.then(|| self.made("Transpose", vec![name], node, Vec::new()))
        };
        let (left, right) = (turned(left, flag("transA"))?, turned(right, flag("transB"))?);
        let alpha = node.proto.attribute("alpha").map_or(1.0, |attribute| attribute.f);
        let product = self.made("MatMul", vec![left, right], node, Vec::new());
        let alpha = self.number(node, alpha);
        self.put("Mul", vec![product, alpha], output, Vec::new());
        Some(())
    }

    /// `0.5 * x * (1 + inner)`
    fn gelu(&mut self, node: &Node, x: String, inner: String, output: String) -> Option<()> {
        let one = self.number(node, 1.0);
        let sum = self.made("Add", vec![inner, one], node, Vec::new());
        let half = self.times(node, &x, 0.5);
        self.put("Mul", vec![half, sum], output, Vec::new());
        Some(())
    }

    /// `0.5 * x * (1 + tanh(sqrt(2/pi) * (x + 0.044715 * x^3)))`
    fn fast_gelu(&mut self, node: &Node, mut x: String, output: String) -> Option<()> {
        /// sqrt(2 / pi)
        const SLOPE: f32 = 0.797_884_6;
        if let Some(bias) = node.input(1) {
            x = self.made("Add", vec![x, bias.to_owned()], node, Vec::new());
        }
        let square = self.made("Mul", vec![x.clone(), x.clone()], node, Vec::new());
        let scaled = self.times(node, &square, 0.044_715);
        let one = self.number(node, 1.0);
        let sum = self.made("Add", vec![scaled, one], node, Vec::new());
        let cubic = self.made("Mul", vec![x.clone(), sum], node, Vec::new());
        let argument = self.times(node, &cubic, SLOPE);
        let inner = self.made("Tanh", vec![argument], node, Vec::new());
        self.gelu(node, x, inner, output)
    }

    /// The activation that the node names, of `input`. Its parameters are in the list `list`, or each has a name.
    fn activate(&mut self, node: &Node, list: &str, input: String, output: String) -> Option<()> {
        let name = node.proto.attribute("activation").map(|attribute| String::from_utf8_lossy(&attribute.s).into_owned()).unwrap_or_default();
        let parameters: Vec<f32> = match node.proto.attribute(list) {
            Some(attribute) => attribute.floats.clone(),
            None => {
                ["activation_alpha", "activation_beta"].iter().filter_map(|name| node.proto.attribute(name)).map(|attribute| attribute.f).collect()
            }
        };
        match (name.as_str(), parameters.as_slice()) {
            ("", _) => self.put("Identity", vec![input], output, Vec::new()),
            ("Relu" | "Tanh" | "Sigmoid" | "Softplus" | "Softsign", _) => self.put(&name, vec![input], output, Vec::new()),
            ("Clip", &[least, most]) if self.opset >= CLIP_INPUT_OPSET => {
                let bounds = [least, most].map(|bound| self.number(node, bound));
                self.put("Clip", [vec![input], bounds.to_vec()].concat(), output, Vec::new());
            }
            ("Clip", &[least, most]) => self.put("Clip", vec![input], output, vec![float("min", least), float("max", most)]),
            ("LeakyRelu" | "Elu" | "HardSigmoid", parameters) => {
                let named = ["alpha", "beta"].iter().zip(parameters).map(|(name, &value)| float(name, value));
                self.put(&name, vec![input], output, named.collect());
            }
            _ => return None,
        }
        Some(())
    }

    fn times(&mut self, node: &Node, input: &str, factor: f32) -> String {
        let factor = self.number(node, factor);
        self.made("Mul", vec![input.to_owned(), factor], node, Vec::new())
    }

    /// A constant.
    fn number(&mut self, node: &Node, value: f32) -> String {
        let name = self.fresh(node);
        self.constants.insert_made(&name, arr0(value).into_dyn().into());
        name
    }

    fn fresh(&mut self, node: &Node) -> String {
        let of = node.output(0).unwrap_or_default();
        let name = (1..).map(|number| format!("{of}.inner.{number}")).find(|name| !self.taken.contains(name)).unwrap_or_default();
        self.taken.insert(name.clone());
        name
    }

    fn made(&mut self, op_type: &str, input: Vec<String>, node: &Node, attribute: Vec<AttributeProto>) -> String {
        let output = self.fresh(node);
        self.put(op_type, input, output.clone(), attribute);
        output
    }

    fn put(&mut self, op_type: &str, input: Vec<String>, output: String, attribute: Vec<AttributeProto>) {
        let proto = NodeProto { op_type: op_type.to_owned(), input, output: vec![output], attribute, ..NodeProto::default() };
        self.nodes.push(Node { proto, ..Node::default() });
    }
}

fn without(node: &Node, names: &[&str]) -> Vec<AttributeProto> {
    node.proto.attribute.iter().filter(|attribute| !names.contains(&attribute.name.as_str())).cloned().collect()
}

fn float(name: &str, f: f32) -> AttributeProto {
    AttributeProto { name: name.to_owned(), kind: AttributeKind::Float as i32, f, ..AttributeProto::default() }
}
