//! Which tensors of a model are forms, activations of forms, rows of others and products: each node is looked at once, in the order in which
//! nodes run.

use std::collections::BTreeMap;

use super::form::{Form, Gate, MAX_PARTS, Part, Pick, Place, Source, activation, hard_sigmoid};
use crate::formats::onnx::constants::Constants;
use crate::formats::onnx::facts::{Axes, Dim, Facts, MAX_NAME, wrapped};
use crate::formats::onnx::graph::{self, Node};
use crate::formats::onnx::{cut, operator};
use crate::network::Activation;
use crate::network::op::Op;
use crate::tensor::{ElementType, TensorView};

/// All that is known of the tensors of a model as far as cells are made of them, by name.
#[derive(Debug)]
pub(super) struct Forms {
    pub(super) facts: Facts,
    aliases: BTreeMap<String, String>,
    forms: BTreeMap<String, Form>,
    gates: BTreeMap<String, Gate>,
    /// forms that were held between 0 and a bound
    clips: BTreeMap<String, (Form, f32)>,
    picks: BTreeMap<String, Pick>,
    /// one place on an axis that is still there
    sections: BTreeMap<String, Pick>,
    /// what is joined on the last axis
    joins: BTreeMap<String, Vec<String>>,
    /// a tensor whose elements these are, in another order at most
    origins: BTreeMap<String, String>,
    /// activations of tensors that are no forms: by what they read
    pub(super) activated: BTreeMap<String, Vec<(String, Activation)>>,
    /// the two factors
    pub(super) products: BTreeMap<String, [String; 2]>,
    /// products by their factors
    pub(super) products_of: BTreeMap<String, Vec<String>>,
    /// what is less than what
    pub(super) less: BTreeMap<String, [String; 2]>,
    /// what holds where both do
    pub(super) ands: BTreeMap<String, [String; 2]>,
    /// sums of two products
    pub(super) sums: Vec<(String, [String; 2])>,
}

impl Forms {
    pub(super) fn new(facts: Facts) -> Self {
        Self {
            facts,
            aliases: BTreeMap::new(),
            forms: BTreeMap::new(),
            gates: BTreeMap::new(),
            clips: BTreeMap::new(),
            picks: BTreeMap::new(),
            sections: BTreeMap::new(),
            joins: BTreeMap::new(),
            origins: BTreeMap::new(),
            activated: BTreeMap::new(),
            products: BTreeMap::new(),
            products_of: BTreeMap::new(),
            less: BTreeMap::new(),
            ands: BTreeMap::new(),
            sums: Vec::new(),
        }
    }

    /// The tensor that `name` is a copy of.
    pub(super) fn root<'a>(&'a self, name: &'a str) -> &'a str {
        self.aliases.get(name).map_or(name, String::as_str)
    }

    /// Makes `name` another name of `other`.
    pub(super) fn alias(&mut self, name: &str, other: &str) {
        let root = self.root(other).to_owned();
        self.aliases.insert(name.to_owned(), root);
    }

    pub(super) fn gate(&self, name: &str) -> Option<&Gate> {
        self.gates.get(self.root(name))
    }

    /// What `source` is one place of.
    pub(super) fn pick<'a>(&'a self, source: &'a Source) -> Option<&'a Pick> {
        match source {
            Source::Tensor(name) => self.picks.get(self.root(name)),
            Source::Pick(pick) => Some(pick),
        }
    }

    /// Says that `name` is one place of another tensor.
    pub(super) fn set_pick(&mut self, name: &str, pick: Pick) {
        self.picks.insert(name.to_owned(), pick);
    }

    /// The tensor whose elements, or some of them, `source` has.
    pub(super) fn origin<'a>(&'a self, source: &'a Source) -> &'a str {
        let name = match source {
            Source::Tensor(name) => self.root(name),
            Source::Pick(pick) => self.root(&pick.tensor),
        };
        self.origins.get(name).map_or(name, String::as_str)
    }

    /// Looks at one node.
    pub(super) fn note(&mut self, node: &Node, constants: &mut Constants) {
        self.facts.note(node, constants);
        if !graph::is_onnx(&node.proto.domain) || !node.captured.is_empty() || node.branches.is_some() {
            return;
        }
        if node.makes().chain(node.reads()).any(|name| name.len() > MAX_NAME) {
            return;
        }
        let (Some(output), Some(input)) = (node.output(0).map(str::to_owned), node.input(0)) else { return };
        let input = self.root(input).to_owned();
        if cut::moves_axes(node) {
            let origin = self.origin(&Source::Tensor(input.clone())).to_owned();
            for made in node.makes() {
                self.origins.insert(made.to_owned(), origin.clone());
            }
        }
        // what cannot be followed stays a tensor like any other
        let _ = self.follow(node, &input, &output, constants);
    }

    fn follow(&mut self, node: &Node, input: &str, output: &str, constants: &mut Constants) -> Option<()> {
        let op = operator::read(&node.proto, self.facts.opset).ok().flatten();
        match node.proto.op_type.as_str() {
            "Identity" => self.alias(output, input),
            "Cast" => {
                let to_float = matches!(op, Some(Op::Cast { to: ElementType::F32 }));
                if to_float && self.facts.is_float(input, constants) {
                    self.alias(output, input);
                }
            }
            "MatMul" | "Gemm" => {
                let form = self.product(node, input, constants)?;
                self.put(output, form, constants);
            }
            "Add" | "Sum" | "Sub" => self.add(node, input, output, constants)?,
            "Less" | "Greater" | "And" => {
                let mut pair = [input.to_owned(), self.root(node.input(1)?).to_owned()];
                if node.is("Greater") {
                    pair.reverse();
                }
                if node.is("And") { &mut self.ands } else { &mut self.less }.insert(output.to_owned(), pair);
            }
            "Mul" | "Div" => self.multiply(node, input, output, constants)?,
            "Clip" => self.clip(node, input, output, constants)?,
            "Split" => self.split(node, &op?, input, constants)?,
            "Slice" => self.slice(node, &op?, input, output, constants)?,
            "Gather" => {
                let Op::Gather { axis } = op? else { return None };
                let index = node.input(1)?;
                if !self.facts.axes(index, constants)?.is_empty() {
                    return None;
                }
                let at = match self.facts.integers(index, constants) {
                    Some(values) => Place::Number(*values.first()?),
                    None => Place::Tensor(self.root(index).to_owned()),
                };
                let axis = wrapped(axis, self.facts.axes(input, constants)?.len())?;
                self.picked(output, Pick { tensor: input.to_owned(), axis, at }, constants);
            }
            "Squeeze" | "Unsqueeze" | "Reshape" => self.reshape(node, &op?, input, output, constants)?,
            "Concat" => {
                let Op::Concat { axis } = op? else { return None };
                let rank = self.facts.axes(output, constants)?.len();
                let names: Vec<String> = node.proto.input.iter().map(|name| self.root(name).to_owned()).collect();
                if let [alone] = names.as_slice() {
                    self.alias(output, alone);
                } else if wrapped(axis, rank)? + 1 == rank && names.len() <= MAX_PARTS {
                    self.joins.insert(output.to_owned(), names);
                }
            }
            _ => {
                let activation = activation(node)?;
                match self.forms.get(input) {
                    Some(form) => {
                        self.gates.insert(output.to_owned(), Gate { form: form.clone(), activation });
                    }
                    None => self.activated.entry(input.to_owned()).or_default().push((output.to_owned(), activation)),
                }
            }
        }
        Some(())
    }

    /// Keeps a form of a tensor whose axes are known.
    fn put(&mut self, name: &str, form: Form, constants: &Constants) {
        if self.facts.last(name, constants) == Some(form.width) {
            self.forms.insert(name.to_owned(), form);
        }
    }

    /// `MatMul` and `Gemm`.
    fn product(&self, node: &Node, input: &str, constants: &mut Constants) -> Option<Form> {
        let matrix = self.root(node.input(1)?).to_owned();
        let attribute = |name: &str| node.proto.attribute(name);
        let is_gemm = node.is("Gemm");
        let flag = |name: &str| is_gemm && attribute(name).is_some_and(|attribute| attribute.i != 0);
        let factor = |name: &str| attribute(name).filter(|_| is_gemm).map_or(1.0, |attribute| attribute.f);
        let (turned, scale) = (flag("transB"), factor("alpha"));
        let &[rows, columns] = constants.shape(&matrix)?.as_slice() else { return None };
        if flag("transA") || !constants.is_float32(&matrix) || self.facts.axes(input, constants)?.len() < 2 {
            return None;
        }
        let (inputs, width) = if turned { (columns, rows) } else { (rows, columns) };
        let part = |source: String, first_input: usize, inputs: usize| {
            let source = Some(Source::Tensor(source));
            Part { source, constant: matrix.clone(), turned, first_input, inputs, first_output: 0, scale }
        };
        let mut parts = Vec::new();
        match self.joins.get(input) {
            None => parts.push(part(input.to_owned(), 0, inputs)),
            Some(names) => {
                let mut first = 0;
                for (name, size) in names.iter().zip(self.sizes(names, inputs, constants)?) {
                    parts.push(part(name.clone(), first, size));
                    first += size;
                }
            }
        }
        let form = Form { parts, offset: 0.0, width };
        match node.input(2).filter(|_| is_gemm) {
            None => Some(form),
            Some(added) => {
                let added = self.operand(self.root(added), width, 2, constants)?;
                form.plus(&added.times(factor("beta")))
            }
        }
    }

    /// How `inputs` rows of a matrix belong to the tensors that are joined; the size of one may be unknown.
    fn sizes(&self, names: &[String], inputs: usize, constants: &Constants) -> Option<Vec<usize>> {
        let sizes: Vec<Option<usize>> = names.iter().map(|name| self.facts.last(name, constants)).collect();
        let known = sizes.iter().flatten().try_fold(0_usize, |sum, &size| sum.checked_add(size))?;
        let rest = inputs.checked_sub(known)?;
        let open = sizes.iter().filter(|size| size.is_none()).count();
        let fits = if open == 0 { rest == 0 } else { open == 1 && rest > 0 };
        fits.then(|| sizes.into_iter().map(|size| size.unwrap_or(rest)).collect())
    }

    /// Something that is added: a form, or a constant that is the same for every row. `rank` is that of the result.
    fn operand(&self, name: &str, width: usize, rank: usize, constants: &mut Constants) -> Option<Form> {
        if let Some(form) = self.forms.get(name) {
            // one row may be added to one row, whatever axes are before it
            let axes = self.facts.axes(name, constants)?;
            let one_row = axes[..axes.len() - 1].iter().all(|dim| *dim == Dim::Known(1));
            return (axes.len() == rank || (one_row && axes.len() < rank)).then(|| form.clone());
        }
        if let Some(offset) = self.number(name, constants) {
            return Some(Form { parts: Vec::new(), offset, width });
        }
        let shape = constants.shape(name)?;
        let (last, others) = shape.split_last()?;
        let fits = *last == width && others.iter().all(|&size| size == 1) && shape.len() <= rank && constants.is_float32(name);
        let part = Part { source: None, constant: name.to_owned(), turned: false, first_input: 0, inputs: 1, first_output: 0, scale: 1.0 };
        fits.then(|| Form { parts: vec![part], offset: 0.0, width })
    }

    /// The number that a constant of one element is.
    fn number(&self, name: &str, constants: &mut Constants) -> Option<f32> {
        if constants.shape(name)?.iter().any(|&size| size != 1) {
            return None;
        }
        match constants.get(name).ok()? {
            TensorView::F32(values) => values.first().copied(),
            _ => None,
        }
    }

    fn add(&mut self, node: &Node, input: &str, output: &str, constants: &mut Constants) -> Option<()> {
        let [_, other] = node.proto.input.as_slice() else { return None };
        let other = self.root(other).to_owned();
        if !node.is("Sub") && self.products.contains_key(input) && self.products.contains_key(&other) {
            self.sums.push((output.to_owned(), [input.to_owned(), other]));
            return Some(());
        }
        let width = self.forms.get(input).or_else(|| self.forms.get(&other))?.width;
        let rank = self.facts.axes(output, constants)?.len();
        let (left, right) = (self.operand(input, width, rank, constants)?, self.operand(&other, width, rank, constants)?);
        let right = if node.is("Sub") { right.times(-1.0) } else { right };
        let form = left.plus(&right)?;
        self.put(output, form, constants);
        Some(())
    }

    fn multiply(&mut self, node: &Node, input: &str, output: &str, constants: &mut Constants) -> Option<()> {
        let other = self.root(node.input(1)?).to_owned();
        let (name, factor) = match (self.number(&other, constants), self.number(input, constants)) {
            (Some(number), _) => (input, if node.is("Div") { 1.0 / number } else { number }),
            (None, Some(number)) if node.is("Mul") => (other.as_str(), number),
            _ => {
                if node.is("Mul") {
                    for factor in [input, &other] {
                        self.products_of.entry(factor.to_owned()).or_default().push(output.to_owned());
                    }
                    self.products.insert(output.to_owned(), [input.to_owned(), other]);
                }
                return Some(());
            }
        };
        if !factor.is_finite() || factor == 0.0 {
            return None;
        }
        if let Some(form) = self.forms.get(name) {
            let form = form.times(factor);
            self.put(output, form, constants);
        } else if let Some((form, bound)) = self.clips.get(name) {
            let gate = hard_sigmoid(form, *bound, factor)?;
            self.gates.insert(output.to_owned(), gate);
        }
        Some(())
    }

    /// `Clip` from 0 to a bound.
    fn clip(&mut self, node: &Node, input: &str, output: &str, constants: &mut Constants) -> Option<()> {
        let form = self.forms.get(input)?.clone();
        let mut bound = |place: usize, name: &str| match node.input(place) {
            Some(constant) => self.number(constant, constants),
            None => node.proto.attribute(name).map(|attribute| attribute.f),
        };
        let (least, most) = (bound(1, "min")?, bound(2, "max")?);
        if least != 0.0 || !(most > 0.0 && most.is_finite()) {
            return None;
        }
        if let Some(gate) = hard_sigmoid(&form, most, 1.0) {
            self.gates.insert(output.to_owned(), gate);
        } else {
            self.clips.insert(output.to_owned(), (form, most));
        }
        Some(())
    }

    fn split(&mut self, node: &Node, op: &Op, input: &str, constants: &mut Constants) -> Option<()> {
        let Op::Split { axis, .. } = op else { return None };
        let axes = self.facts.axes(input, constants)?;
        let axis = wrapped(*axis, axes.len())?;
        let sizes = self.facts.parts(node, op, &axes[axis], constants)?;
        let mut first = 0_usize;
        for (size, output) in sizes.into_iter().zip(&node.proto.output) {
            if axis + 1 == axes.len() {
                if let Some(form) = self.forms.get(input).and_then(|form| form.columns(first, size)) {
                    self.put(output, form, constants);
                }
            } else if size == 1 {
                self.section(output, input, axis, first);
            }
            first = first.checked_add(size)?;
        }
        Some(())
    }

    fn slice(&mut self, node: &Node, op: &Op, input: &str, output: &str, constants: &mut Constants) -> Option<()> {
        let axes = self.facts.axes(input, constants)?;
        let slices = self.facts.slices(node, op, constants)?;
        if slices.iter().all(|slice| slice.is_whole()) {
            self.alias(output, input);
            return Some(());
        }
        let [slice] = slices.as_slice() else { return None };
        let axis = wrapped(slice.axis, axes.len())?;
        let Dim::Known(size) = axes[axis] else { return None };
        let (start, end) = slice.bounds(size)?;
        if axis + 1 == axes.len() {
            let form = self.forms.get(input)?.columns(start, end - start)?;
            self.put(output, form, constants);
        } else if end - start == 1 {
            self.section(output, input, axis, start);
        }
        Some(())
    }

    fn section(&mut self, output: &str, input: &str, axis: usize, at: usize) {
        let Ok(at) = i64::try_from(at) else { return };
        self.sections.insert(output.to_owned(), Pick { tensor: input.to_owned(), axis, at: Place::Number(at) });
    }

    fn reshape(&mut self, node: &Node, op: &Op, input: &str, output: &str, constants: &mut Constants) -> Option<()> {
        if let Some(section) = self.sections.get(input).cloned() {
            let rank = self.facts.axes(input, constants)?.len();
            let drops = match self.facts.dropped(node, op, rank, constants) {
                Axes::These(axes) => axes == [section.axis],
                _ => false,
            };
            if drops {
                self.picked(output, section, constants);
                return Some(());
            }
        }
        // one row is one row, whatever axes are before it
        let one_row = |axes: Vec<Dim>| axes.split_last().is_some_and(|(_, others)| others.iter().all(|dim| *dim == Dim::Known(1)));
        if one_row(self.facts.axes(input, constants)?) && one_row(self.facts.axes(output, constants)?) {
            let form = self.forms.get(input)?.clone();
            self.put(output, form, constants);
        }
        Some(())
    }

    /// A tensor that is one place of another one; where that is a form, so is this.
    fn picked(&mut self, output: &str, pick: Pick, constants: &Constants) {
        if let (Some(form), Some(axes)) = (self.forms.get(&pick.tensor), self.facts.axes(&pick.tensor, constants))
            && pick.axis + 1 < axes.len()
        {
            let of_source = |part: &Part| match &part.source {
                None => Some(part.clone()),
                Some(Source::Tensor(tensor)) if self.facts.axes(tensor, constants)?.len() == axes.len() => {
                    let source = Some(Source::Pick(Pick { tensor: tensor.clone(), ..pick.clone() }));
                    Some(Part { source, ..part.clone() })
                }
                Some(_) => None,
            };
            if let Some(parts) = form.parts.iter().map(of_source).collect() {
                let form = Form { parts, ..form.clone() };
                self.put(output, form, constants);
            }
        }
        self.picks.insert(output.to_owned(), pick);
    }
}
