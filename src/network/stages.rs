//! Networks made of weights: stages one behind the other, an LSTM stack at least among them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::network::{AxisSize, DenseNode, DenseStage, Layout, Lstm, LstmNode, Network, Nodes, Port, Program, Step, Weights};
use crate::tensor::ElementType;

/// A stage of a network: [`Network::from_stages`].
#[derive(Clone, Debug, PartialEq)]
pub enum Stage {
    /// a stack of LSTM layers
    Lstm(Lstm),
    /// a layer beside the stacks
    Dense(DenseStage),
}

impl Network {
    /// A network of one LSTM stack. Its inputs are `x` and, optionally, `h_0`, `c_0` and `sequence_lens`; its outputs `y`, `h_n`, `c_n`.
    pub fn from_lstm(lstm: Lstm, batch_first: bool) -> Self {
        let notes = lstm.non_finite().into_iter().map(|tensor| format!("{tensor} holds NaN or infinity")).collect();
        let (input_size, y_size) = (lstm.config().input_size, lstm.config().y_size());
        Self { notes, ..joined(vec![("lstm".to_owned(), Stage::Lstm(lstm))], Some(input_size), y_size, batch_first) }
    }

    /// A network of named stages, each of which gets what the one before it makes for every step of every row.
    ///
    /// Its inputs are `x`, ids `[seq_len, batch]` where the first stage is an embedding and features `[seq_len, batch, features]` elsewhere, and, all of
    /// them optional, `sequence_lens` and the initial states; its outputs are `y`, which the last stage makes, and the final states. The states are
    /// called `h_0`, `c_0`, `h_n` and `c_n` where there is one stack, and `NAME.h_0` and so on where there are several.
    ///
    /// ```
    /// use cellgate::{CellWeights, DenseStage, Linear, Lstm, LstmConfig, Network, RowFunction, Stage};
    /// use ndarray::{Array1, Array2};
    ///
    /// let cell = CellWeights {
    ///     weight_ih: Array2::from_elem((16, 3), 0.1),
    ///     weight_hh: Array2::from_elem((16, 4), 0.1),
    ///     bias_ih: Some(Array1::zeros(16)),
    ///     bias_hh: Some(Array1::zeros(16)),
    ///     weight_hr: None,
    ///     peepholes: None,
    ///     layer_norm: None,
    /// };
    /// let lstm = Lstm::new(LstmConfig::new(3, 4), vec![cell])?;
    /// let head = Linear::new(Array2::from_elem((2, 4), 0.1), None)?;
    /// let network = Network::from_stages(
    ///     vec![
    ///         ("lstm".to_owned(), Stage::Lstm(lstm)),
    ///         ("head".to_owned(), Stage::Dense(DenseStage::Linear(head, RowFunction::LogSoftmax))),
    ///     ],
    ///     false,
    /// )?;
    /// assert_eq!(network.num_parameters(), 16 * 3 + 16 * 4 + 32 + 2 * 4);
    /// # Ok::<(), cellgate::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) where no stage is a stack, an embedding is not the first one, or two have one name;
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) where a stage takes other features than the one before it makes.
    pub fn from_stages(stages: Vec<(String, Stage)>, batch_first: bool) -> Result<Self> {
        let mut names = BTreeSet::new();
        for (place, (name, stage)) in stages.iter().enumerate() {
            if name.is_empty() || !names.insert(name) {
                return Err(Error::config(format!("stage {place}: expected a name that no other stage has, found `{name}`")));
            }
            if place > 0 && matches!(stage, Stage::Dense(DenseStage::Embedding(_))) {
                return Err(Error::config(format!("embedding `{name}`: expected as the first stage, found as number {place}")));
            }
        }
        let num_stacks = stages.iter().filter(|(_, stage)| matches!(stage, Stage::Lstm(_))).count();
        if num_stacks == 0 {
            return Err(Error::config("stages: expected an LSTM among them, found none"));
        }
        // what comes in has the features that the first stage to have weights of its own asks for
        let first = if stages[0].1.is_embedding() { None } else { stages.iter().find_map(|(_, stage)| stage.in_features()) };
        let mut features = first;
        for (place, (name, stage)) in stages.iter().enumerate() {
            if let (Some(expected), Some(found)) = (stage.in_features(), features)
                && expected != found
            {
                // the first one decides what comes in
                let before = &stages[place - 1].0;
                let (what, rule) = stage.words();
                return Err(Error::shape(format!("{what} `{name}`: expected {rule} = {found}, which `{before}` makes, found {expected}")));
            }
            features = stage.out_features().or(features);
        }
        let y_features = features.ok_or_else(|| Error::config("stages: expected one that has weights, found none"))?;
        let mut notes = Vec::new();
        for (name, stage) in &stages {
            notes.extend(stage.non_finite().into_iter().map(|tensor| format!("`{name}`: {tensor} holds NaN or infinity")));
        }
        Ok(Self { notes, ..joined(stages, first, y_features, batch_first) })
    }

    /// How many ids the input `name` may be of, where it is what an embedding looks up.
    pub fn num_ids(&self, name: &str) -> Option<usize> {
        // exporters cast ids, and turn their axes
        let mut names = BTreeSet::from([name]);
        for step in &self.program.steps {
            if let Step::Op(node) = step
                && node.inputs.first().is_some_and(|input| names.contains(input.as_str()))
            {
                names.extend(node.outputs.iter().map(String::as_str));
            }
        }
        self.dense.iter().filter(|node| names.contains(node.x.as_str())).find_map(|node| match &*node.stage {
            DenseStage::Embedding(embedding) => Some(embedding.num_embeddings()),
            DenseStage::Linear(..) | DenseStage::Function(_) => None,
        })
    }
}

/// The network of stages that fit each other; `features` of `x` are absent where it is ids.
fn joined(stages: Vec<(String, Stage)>, features: Option<usize>, y_features: usize, batch_first: bool) -> Network {
    let layout = if batch_first { Layout::BatchFirst } else { Layout::TimeFirst };
    let named = |name: &str| AxisSize::Named(name.to_owned());
    let steps_and_rows = if batch_first { ["batch", "seq_len"] } else { ["seq_len", "batch"] }.map(named);
    let sequence = |size: Option<usize>| steps_and_rows.iter().cloned().chain(size.map(AxisSize::Fixed)).collect::<Vec<_>>();
    let port = |name: &str, element_type, axes, optional| Port { name: name.to_owned(), element_type, axes, optional };
    let x_type = if features.is_some() { ElementType::F32 } else { ElementType::I64 };
    let mut inputs = vec![port("x", x_type, sequence(features), false)];
    let mut outputs = vec![port("y", ElementType::F32, sequence(Some(y_features)), false)];

    let several = stages.iter().filter(|(_, stage)| matches!(stage, Stage::Lstm(_))).count() > 1;
    let last = stages.len() - 1;
    let (mut nodes, mut dense, mut steps) = (Vec::new(), Vec::new(), Vec::new());
    let mut x = "x".to_owned();
    for (place, (name, stage)) in stages.into_iter().enumerate() {
        let y = if place == last { "y".to_owned() } else { format!("stage {place}") };
        let before = std::mem::replace(&mut x, y.clone());
        match stage {
            Stage::Lstm(lstm) => {
                let config = lstm.config();
                let state = |size| vec![AxisSize::Fixed(config.num_cells()), named("batch"), AxisSize::Fixed(size)];
                let [h_0, c_0, h_n, c_n] =
                    ["h_0", "c_0", "h_n", "c_n"].map(|state| if several { format!("{name}.{state}") } else { state.to_owned() });
                inputs.push(port(&h_0, ElementType::F32, state(config.out_size()), true));
                inputs.push(port(&c_0, ElementType::F32, state(config.hidden_size), true));
                outputs.push(port(&h_n, ElementType::F32, state(config.out_size()), false));
                outputs.push(port(&c_n, ElementType::F32, state(config.hidden_size), false));
                steps.push(Step::Lstm(nodes.len()));
                nodes.push(LstmNode {
                    name,
                    merged: 1,
                    layout,
                    weights: Weights::Constant(Arc::new(lstm)),
                    x: before,
                    sequence_lens: Some("sequence_lens".to_owned()),
                    h_0: Some(h_0),
                    c_0: Some(c_0),
                    y: Some(y),
                    h_n: Some(h_n),
                    c_n: Some(c_n),
                });
            }
            Stage::Dense(stage) => {
                steps.push(Step::Dense(dense.len()));
                dense.push(DenseNode { name, stage: Arc::new(stage), x: before, y });
            }
        }
    }
    inputs.push(port("sequence_lens", ElementType::I64, vec![named("batch")], true));
    let made = outputs.iter().map(|port| port.name.clone()).collect();
    Network {
        format: "weights",
        inputs,
        outputs,
        program: Program::new(steps, made, Nodes { lstms: &nodes, dense: &dense }),
        nodes,
        dense,
        constants: BTreeMap::new(),
        notes: Vec::new(),
        metadata: BTreeMap::new(),
    }
}

impl Stage {
    fn is_embedding(&self) -> bool {
        matches!(self, Self::Dense(DenseStage::Embedding(_)))
    }

    /// Features that it takes; `None` where any number will do, or it takes ids.
    fn in_features(&self) -> Option<usize> {
        match self {
            Self::Lstm(lstm) => Some(lstm.config().input_size),
            Self::Dense(stage) => stage.in_features(),
        }
    }

    /// Features that it makes; `None` where these are as many as it takes.
    fn out_features(&self) -> Option<usize> {
        match self {
            Self::Lstm(lstm) => Some(lstm.config().y_size()),
            Self::Dense(DenseStage::Embedding(embedding)) => Some(embedding.embedding_dim()),
            Self::Dense(DenseStage::Linear(linear, _)) => Some(linear.out_features()),
            Self::Dense(DenseStage::Function(_)) => None,
        }
    }

    /// What it is, and what the features are called that it takes.
    fn words(&self) -> (&'static str, &'static str) {
        match self {
            Self::Lstm(_) => ("LSTM", "input_size"),
            Self::Dense(DenseStage::Embedding(_)) => ("embedding", "ids"),
            Self::Dense(DenseStage::Linear(..)) => ("linear", "in_features"),
            Self::Dense(DenseStage::Function(_)) => ("function", "features"),
        }
    }

    /// Names of the weight tensors that hold NaN or infinity.
    fn non_finite(&self) -> Vec<String> {
        match self {
            Self::Lstm(lstm) => lstm.non_finite(),
            Self::Dense(stage) => {
                let (weight, bias) = match stage {
                    DenseStage::Embedding(embedding) => (Some(embedding.table()), None),
                    DenseStage::Linear(linear, _) => (Some(linear.weight()), linear.bias()),
                    DenseStage::Function(_) => (None, None),
                };
                let weight = weight.filter(|weight| weight.iter().any(|value| !value.is_finite())).map(|_| "weight".to_owned());
                let bias = bias.filter(|bias| bias.iter().any(|value| !value.is_finite())).map(|_| "bias".to_owned());
                weight.into_iter().chain(bias).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array1, Array2};

    use super::*;
    use crate::error::ErrorKind;
    use crate::network::{CellWeights, Embedding, Linear, LstmConfig, RowFunction};

    fn lstm(input: usize, hidden: usize) -> Stage {
        let cell = CellWeights {
            weight_ih: Array2::zeros((4 * hidden, input)),
            weight_hh: Array2::zeros((4 * hidden, hidden)),
            bias_ih: Some(Array1::zeros(4 * hidden)),
            bias_hh: Some(Array1::zeros(4 * hidden)),
            weight_hr: None,
            peepholes: None,
            layer_norm: None,
        };
        Stage::Lstm(Lstm::new(LstmConfig::new(input, hidden), vec![cell]).expect("it is valid"))
    }

    fn linear(features: usize, out: usize) -> Stage {
        let linear = Linear::new(Array2::from_elem((out, features), f32::NAN), None).expect("it is valid");
        Stage::Dense(DenseStage::Linear(linear, RowFunction::None))
    }

    fn embedding(ids: usize, dim: usize) -> Stage {
        Stage::Dense(DenseStage::Embedding(Embedding::new(Array2::zeros((ids, dim))).expect("it is valid")))
    }

    fn network(stages: Vec<(&str, Stage)>) -> Result<Network> {
        Network::from_stages(stages.into_iter().map(|(name, stage)| (name.to_owned(), stage)).collect(), true)
    }

    fn names(ports: &[Port]) -> Vec<&str> {
        ports.iter().map(|port| port.name.as_str()).collect()
    }

    #[test]
    fn ports_are_named_after_the_stacks_where_there_are_several() {
        let one = network(vec![("emb", embedding(7, 3)), ("lstm", lstm(3, 4)), ("fc", linear(4, 2))]).expect("it fits");
        assert_eq!(names(one.inputs()), ["x", "h_0", "c_0", "sequence_lens"]);
        assert_eq!(names(one.outputs()), ["y", "h_n", "c_n"]);
        let axes: Vec<String> = one.outputs()[0].axes.iter().map(ToString::to_string).collect();
        assert_eq!((one.inputs()[0].element_type, one.inputs()[0].axes.len(), axes.join(" ")), (ElementType::I64, 2, "batch seq_len 2".to_owned()));
        assert_eq!((one.num_ids("x"), one.num_ids("y"), one.num_parameters()), (Some(7), None, 7 * 3 + 16 * 9 + 8));
        assert_eq!(one.notes(), ["`fc`: weight holds NaN or infinity"]);
        let two = network(vec![("a", lstm(3, 4)), ("b", lstm(4, 2))]).expect("it fits");
        assert_eq!(names(two.inputs()), ["x", "a.h_0", "a.c_0", "b.h_0", "b.c_0", "sequence_lens"]);
        assert_eq!(names(two.outputs()), ["y", "a.h_n", "a.c_n", "b.h_n", "b.c_n"]);
    }

    #[test]
    fn stages_that_do_not_fit_are_named() {
        let cases = [
            (
                vec![("lstm", lstm(3, 4)), ("fc", linear(5, 2))],
                ErrorKind::Shape,
                "linear `fc`: expected in_features = 4, which `lstm` makes, found 5",
            ),
            (
                vec![("emb", embedding(7, 2)), ("lstm", lstm(3, 4))],
                ErrorKind::Shape,
                "LSTM `lstm`: expected input_size = 2, which `emb` makes, found 3",
            ),
            (vec![("lstm", lstm(3, 4)), ("emb", embedding(7, 2))], ErrorKind::Config, "embedding `emb`: expected as the first stage"),
            (vec![("a", lstm(3, 4)), ("a", lstm(4, 4))], ErrorKind::Config, "stage 1: expected a name that no other stage has, found `a`"),
            (vec![("a", linear(3, 4))], ErrorKind::Config, "expected an LSTM among them"),
            (vec![], ErrorKind::Config, "expected an LSTM among them"),
        ];
        for (stages, kind, text) in cases {
            let error = network(stages).expect_err(text);
            assert_eq!(error.kind(), kind);
            assert!(error.to_string().contains(text), "{error}");
        }
    }
}
