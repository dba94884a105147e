//! Whether a network, of whatever origin, is a chain: stages of which each has what the one before it made, for every step of every row.
//!
//! The program is walked with tensors that are not there: of each it is known which stage made it and where its elements stand in `[T, N, F]`, or
//! `[N, T, F]` where the batch is first. Two sizes of T and N make sure that no view holds for one of them alone.

use std::collections::{BTreeMap, BTreeSet};

use crate::network::op::Op;
use crate::network::{AxisSize, DenseNode, DenseStage, Lstm, LstmNode, Network, OpNode, Step, Strided};
use crate::tensor::{ElementType, Tensor, TensorView};

/// Sizes of T and N that no model has by chance.
const TRIALS: [[usize; 2]; 2] = [[11, 7], [5, 13]];

/// Bytes that a tensor of sizes of axes may take.
const MOST_BYTES: usize = 1 << 12;

/// The chain that a network is.
pub(super) struct Traced<'n> {
    pub(super) stages: Vec<TracedStage<'n>>,
    pub(super) batch_first: bool,
    /// what is called otherwise in a chain, or has other axes
    pub(super) notes: Vec<String>,
}

#[derive(Clone, Copy)]
pub(super) enum TracedStage<'n> {
    Lstm(&'n LstmNode, &'n Lstm),
    Dense(&'n DenseNode),
}

/// What is known of a tensor.
#[derive(Clone)]
enum Known {
    /// what stage number n - 1 made, or `x` where n is 0, and where its elements are
    Stage(usize, Strided),
    /// made of final states
    State,
    /// sizes of axes and the like
    Small(Tensor),
    /// made of inputs other than `x`
    Outside,
}

/// Why a network is no chain, and how many of its stages are one.
struct Refusal(usize, String);

type Trace<T> = Result<T, Refusal>;

/// The chain that the network is, or why it is none.
pub(super) fn chain(network: &Network) -> Result<Traced<'_>, String> {
    let mut refused: Option<Refusal> = None;
    for batch_first in [false, true] {
        let walks: Trace<Vec<Walk<'_>>> = TRIALS.into_iter().map(|sizes| Walk::whole(network, batch_first, sizes)).collect();
        match walks {
            Ok(mut walks) => {
                let Walk { stages, notes, .. } = walks.swap_remove(0);
                return Ok(Traced { stages, batch_first, notes });
            }
            Err(refusal) if refused.as_ref().is_none_or(|known| known.0 < refusal.0) => refused = Some(refusal),
            Err(_) => {}
        }
    }
    Err(refused.map(|Refusal(_, why)| why).unwrap_or_default())
}

struct Walk<'n> {
    network: &'n Network,
    batch_first: bool,
    /// T and N
    sizes: [usize; 2],
    known: BTreeMap<&'n str, Known>,
    stages: Vec<TracedStage<'n>>,
    /// features of what the last stage made; 1 of ids
    features: usize,
    /// the name of the lengths, once an LSTM has said whether it takes any
    lens: Option<Option<&'n str>>,
    /// whether the ids came through a change of type
    casts_ids: bool,
    notes: Vec<String>,
}

impl<'n> Walk<'n> {
    fn whole(network: &'n Network, batch_first: bool, sizes: [usize; 2]) -> Trace<Self> {
        let mut walk = Self {
            network,
            batch_first,
            sizes,
            known: BTreeMap::new(),
            stages: Vec::new(),
            features: 1,
            lens: None,
            casts_ids: false,
            notes: Vec::new(),
        };
        walk.start()?;
        for step in &network.program.steps {
            match step {
                Step::Lstm(number) => walk.lstm(&network.nodes[*number])?,
                Step::Dense(number) => walk.dense(&network.dense[*number])?,
                Step::Op(node) => walk.op(node)?,
                Step::Host(node) => return walk.refuse(format!("`{}` runs on the CPU", node.name)),
                Step::If(node) => return walk.refuse(format!("`{}` is a choice that a call makes", node.name)),
            }
        }
        walk.end()?;
        Ok(walk)
    }

    fn refuse<T>(&self, why: String) -> Trace<T> {
        Err(Refusal(self.stages.len(), why))
    }

    /// The order in which a chain has the elements of `features` features.
    fn places(&self, features: Option<usize>) -> Strided {
        let [steps, rows] = self.sizes;
        let outer = if self.batch_first { [rows, steps] } else { [steps, rows] };
        Strided::contiguous(&outer.into_iter().chain(features).collect::<Vec<_>>())
    }

    /// Notes what is known before the first step.
    fn start(&mut self) -> Trace<()> {
        let network = self.network;
        self.known.extend(network.inputs.iter().map(|port| (port.name.as_str(), Known::Outside)));
        for (name, tensor) in &network.constants {
            if tensor.view().num_bytes() <= MOST_BYTES {
                self.known.insert(name, Known::Small(tensor.clone()));
            }
        }
        let steps = &network.program.steps;
        let reads = steps.iter().find_map(|step| match step {
            Step::Lstm(number) => Some(&network.nodes[*number].x),
            Step::Dense(number) => Some(&network.dense[*number].x),
            _ => None,
        });
        let Some(mut x) = reads else { return self.refuse(no_stage()) };
        // what it is made of, first inputs all the way
        let made_by = |node: &'n OpNode| node.outputs.iter().map(move |made| (made, node));
        let made_by = steps.iter().filter_map(|step| if let Step::Op(node) = step { Some(made_by(node)) } else { None });
        let made_by: BTreeMap<&String, &OpNode> = made_by.flatten().collect();
        let mut seen = BTreeSet::new();
        while let Some(node) = made_by.get(x) {
            let Some(first) = node.inputs.first().filter(|_| seen.insert(x)) else { break };
            x = first;
        }
        let Some(port) = network.inputs.iter().find(|port| port.name == *x) else {
            return self.refuse(format!("the first stage reads `{x}`, which is no input"));
        };
        let features = steps.iter().find_map(|step| match step {
            Step::Lstm(number) => Some(network.nodes[*number].constant_weights().map(|lstm| lstm.config().input_size)),
            Step::Dense(number) => match &*network.dense[*number].stage {
                DenseStage::Embedding(_) => Some(None),
                DenseStage::Linear(linear, _) => Some(Some(linear.in_features())),
                DenseStage::Function(_) => None,
            },
            _ => None,
        });
        let features = features.flatten();
        let place = self.places(features);
        if !port.axes.is_empty() && port.axes.len() != place.shape.len() {
            return self.refuse(format!("input `{x}` has {} axes, expected {}", port.axes.len(), place.shape.len()));
        }
        if let (Some(AxisSize::Fixed(size)), Some(features)) = (port.axes.last(), features)
            && *size != features
        {
            return self.refuse(format!("input `{x}` has {size} features, expected {features}"));
        }
        if x != "x" {
            self.notes.push(format!("input `{x}` is `x` in the file"));
        }
        if features.is_none() && port.element_type != ElementType::I64 {
            self.notes.push(format!("input `{x}` is of {}, and of int64 in the file", port.element_type));
        }
        self.features = features.unwrap_or(1);
        self.known.insert(x, Known::Stage(0, place));
        Ok(())
    }

    /// Where the elements of the tensor `x` are, which the stage called `name` reads.
    fn read(&self, name: &str, x: &str) -> Trace<Strided> {
        match self.known.get(x) {
            Some(Known::Stage(number, place)) if *number == self.stages.len() => Ok(place.clone()),
            Some(Known::Stage(..)) => self.refuse(format!("`{name}` reads something else than what the stage before it makes")),
            Some(Known::State) => self.refuse(format!("`{name}` reads a final state")),
            _ => self.refuse(format!("`{name}` reads `{x}`, which no stage makes")),
        }
    }

    fn lstm(&mut self, node: &'n LstmNode) -> Trace<()> {
        let name = &node.name;
        let Some(lstm) = node.constant_weights() else { return self.refuse(format!("the weights of `{name}` come with each call")) };
        let config = lstm.config();
        let x = self.read(name, &node.x)?;
        let inside = |place: Strided| if self.batch_first { place.permuted(&[1, 0, 2]) } else { place };
        if node.layout.x_place(&node.x, &x).ok() != Some(inside(self.places(Some(config.input_size)))) {
            return self.refuse(format!("`{name}` reads its input in another order of axes, or a part of it"));
        }
        let lens = node.sequence_lens.as_deref();
        if lens.is_some_and(|lens| !matches!(self.known.get(lens), Some(Known::Outside))) {
            return self.refuse(format!("`{name}` has lengths that no input gives"));
        }
        if self.lens.is_some_and(|known| known != lens) {
            return self.refuse(format!("`{name}` has other lengths than the LSTM before it"));
        }
        self.lens = Some(lens);
        let outside = |state: &str| matches!(self.known.get(state), Some(Known::Outside));
        if [&node.h_0, &node.c_0].into_iter().flatten().any(|state| !outside(state)) {
            return self.refuse(format!("`{name}` has an initial state that no input gives"));
        }
        for (given, own) in [(&node.h_0, "h_0"), (&node.c_0, "c_0"), (&node.sequence_lens, "sequence_lens")] {
            if let Some(given) = given.as_ref().filter(|given| !is_called(given, own, name)) {
                self.notes.push(format!("`{given}`, which `{name}` reads, is `{own}` in the file"));
            }
        }
        let y = inside(self.places(Some(config.y_size())));
        let [steps, rows] = self.sizes;
        let y = y.reshaped(&[steps, rows, config.num_directions(), config.out_size()]).map(|y| node.layout.y_place(&y));
        let Some(y) = y else { return self.refuse(format!("`{name}` makes an order of axes that cannot be followed")) };
        self.stages.push(TracedStage::Lstm(node, lstm));
        self.features = config.y_size();
        if let Some(name) = &node.y {
            self.known.insert(name, Known::Stage(self.stages.len(), y));
        }
        self.known.extend([&node.h_n, &node.c_n].into_iter().flatten().map(|name| (name.as_str(), Known::State)));
        Ok(())
    }

    fn dense(&mut self, node: &'n DenseNode) -> Trace<()> {
        let name = &node.name;
        let x = self.read(name, &node.x)?;
        let [steps, rows] = self.sizes;
        let features = self.features;
        let mut place = x;
        let made = match &*node.stage {
            DenseStage::Embedding(_) if !self.stages.is_empty() => return self.refuse(format!("`{name}` is an embedding behind another stage")),
            DenseStage::Embedding(embedding) => {
                // ids have no axis of features
                place.shape.push(1);
                place.strides.push(1);
                embedding.embedding_dim()
            }
            DenseStage::Linear(linear, _) => linear.out_features(),
            DenseStage::Function(_) => features,
        };
        // every row of the stage before, whole and once
        let last = place.shape.len().saturating_sub(1);
        let (step, whole) = (features.cast_signed(), steps * rows * features);
        let rows_are_whole = place.shape.last() == Some(&features) && (features == 1 || place.strides[last] == 1);
        let outer = place.shape.iter().zip(&place.strides).take(last);
        if !rows_are_whole
            || place.offset != 0
            || place.len() != whole
            || outer.clone().any(|(size, stride)| *size > 1 && (stride % step != 0 || *stride == 0))
        {
            return self.refuse(format!("`{name}` reads a part of what the stage before it makes, or other rows"));
        }
        for (size, stride) in place.shape.iter().zip(&mut place.strides).take(last) {
            *stride = if *size > 1 { *stride / step * made.cast_signed() } else { *stride };
        }
        place.shape[last] = made;
        place.strides[last] = 1;
        self.stages.push(TracedStage::Dense(node));
        self.features = made;
        self.known.insert(&node.y, Known::Stage(self.stages.len(), place));
        Ok(())
    }

    fn op(&mut self, node: &'n OpNode) -> Trace<()> {
        let inputs: Vec<Option<&Known>> = node.inputs.iter().map(|name| self.known.get(name.as_str())).collect();
        let outputs = node.outputs.iter().filter(|name| !name.is_empty()).map(String::as_str);
        let all_small = || node.inputs.iter().zip(&inputs).all(|(name, known)| name.is_empty() || matches!(known, Some(Known::Small(_))));
        if let Some(Some(Known::Stage(number, place))) = inputs.first() {
            let number = *number;
            if let Some(tensor) = node.op.of_shape(&place.shape) {
                self.known.extend(outputs.map(|name| (name, Known::Small(tensor.clone()))));
                return Ok(());
            }
            if let (Op::Cast { to: ElementType::I32 | ElementType::I64 }, 0) = (&node.op, number) {
                let place = place.clone();
                self.casts_ids = true;
                self.known.extend(outputs.map(|name| (name, Known::Stage(0, place.clone()))));
                return Ok(());
            }
            let others: Vec<Option<TensorView<'_>>> = inputs[1..].iter().map(small).collect();
            let known = node.inputs[1..].iter().zip(&others).all(|(name, other)| name.is_empty() || other.is_some());
            let made = if known { node.op.relayout(place, &others).ok().flatten() } else { None };
            let Some(made) = made else {
                return self.refuse(format!("`{}` ({}) is more than another view of what a stage makes", node.name, node.op.name()));
            };
            self.known.extend(
                node.outputs.iter().zip(made).filter(|(name, _)| !name.is_empty()).map(|(name, place)| (name.as_str(), Known::Stage(number, place))),
            );
            return Ok(());
        }
        if inputs.iter().flatten().any(|known| matches!(known, Known::Stage(..))) {
            return self.refuse(format!("`{}` ({}) is more than another view of what a stage makes", node.name, node.op.name()));
        }
        if all_small() {
            let given: Vec<Option<TensorView<'_>>> = inputs.iter().map(small).collect();
            let Ok(made) = node.op.run(&given, MOST_BYTES) else {
                return self.refuse(format!("`{}` ({}) cannot be followed", node.name, node.op.name()));
            };
            self.known.extend(
                node.outputs.iter().zip(made).filter(|(name, _)| !name.is_empty()).map(|(name, tensor)| (name.as_str(), Known::Small(tensor))),
            );
            return Ok(());
        }
        let made = if inputs.iter().flatten().any(|known| matches!(known, Known::State)) { Known::State } else { Known::Outside };
        self.known.extend(outputs.map(|name| (name, made.clone())));
        Ok(())
    }

    /// Checks what comes out.
    fn end(&mut self) -> Trace<()> {
        if !self.stages.iter().any(|stage| matches!(stage, TracedStage::Lstm(..))) {
            return self.refuse(no_stage());
        }
        if self.casts_ids && !matches!(self.stages.first(), Some(TracedStage::Dense(node)) if matches!(*node.stage, DenseStage::Embedding(_))) {
            return self.refuse("what comes in is changed to another type".to_owned());
        }
        let network = self.network;
        let canonical = self.places(Some(self.features));
        let nodes: BTreeSet<&str> = network.nodes.iter().map(|node| node.name.as_str()).collect();
        for (port, made) in network.outputs.iter().zip(&network.program.outputs) {
            let name = &port.name;
            match self.known.get(made.as_str()) {
                Some(Known::Stage(number, place)) if *number == self.stages.len() && place.len() == canonical.len() && place.offset == 0 => {
                    if *place != canonical {
                        let note = format!("output `{name}` has other axes than `y` in the file, [seq_len, batch, features] or the batch first");
                        self.notes.push(note);
                    } else if name != "y" {
                        self.notes.push(format!("output `{name}` is `y` in the file"));
                    }
                }
                Some(Known::Stage(number, _)) if *number == self.stages.len() => {
                    return self.refuse(format!("output `{name}` is a part of what the last stage makes"));
                }
                Some(Known::Stage(..)) => return self.refuse(format!("output `{name}` is not what the last stage makes")),
                Some(Known::State) if ["h_n", "c_n"].iter().any(|own| name == own || of_node(name, own).is_some_and(|node| nodes.contains(node))) => {
                }
                Some(Known::State) => self.notes.push(format!("output `{name}` is made of the final states, which are `h_n` and `c_n` in the file")),
                _ => return self.refuse(format!("output `{name}` is made by no stage")),
            }
        }
        Ok(())
    }
}

/// Whether a state of the LSTM `node` has the name that [`Network::from_stages`] gives it.
fn is_called(name: &str, own: &str, node: &str) -> bool {
    name == own || of_node(name, own) == Some(node)
}

/// The LSTM whose state `own` has this name, where there are several.
fn of_node<'s>(name: &'s str, own: &str) -> Option<&'s str> {
    name.strip_suffix(own)?.strip_suffix('.')
}

fn no_stage() -> String {
    "its LSTMs are within branches, of which a call takes one".to_owned()
}

/// The elements of what is known to the last.
fn small<'k>(known: &Option<&'k Known>) -> Option<TensorView<'k>> {
    if let Some(Known::Small(tensor)) = known { Some(tensor.view()) } else { None }
}
