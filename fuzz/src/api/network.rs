//! Networks made of weights, and what is none.

use cellgate::{CellWeights, DenseStage, Embedding, GATES, LayerNormWeights, Linear, Lstm, LstmConfig, Network, Result, RowFunction, Stage};
use ndarray::{Array1, Array2, ArrayD, Ix1, Ix2};

use super::config::{activation, config, mistaken, shifted};
use super::draw::Draw;
use super::numbers::{Level, Moved, Numbers};

/// What a network is made of.
#[derive(Clone, Debug)]
pub(super) struct NetworkPlan {
    stages: Vec<(String, StagePlan)>,
    pub(super) batch_first: bool,
    /// whether it is made of the first stack alone
    alone: bool,
}

#[derive(Clone, Debug)]
enum StagePlan {
    Lstm(Box<LstmPlan>),
    Embedding { shape: [usize; 2], numbers: Numbers },
    Linear { shape: [usize; 2], bias: Option<usize>, function: RowFunction, numbers: Numbers },
    Function(RowFunction),
}

#[derive(Clone, Debug)]
struct LstmPlan {
    /// what the weights are made for
    config: LstmConfig,
    /// what they are joined with
    joined: LstmConfig,
    numbers: Numbers,
    broken: Option<Broken>,
}

/// What is wrong with the weights of a stack.
#[derive(Clone, Copy, Debug)]
enum Broken {
    CellTooMany,
    CellTooFew,
    NoCells,
    Shape,
    Missing,
    Superfluous,
}

/// Names of stages, some of which other things have as well.
const NAMES: &[&str] = &["lstm", "head", "a", "b", "encoder.lstm", "a b", "x/y", "Größe", "y", "x", "lstm.weight_ih_l0", "", "stage 1", "0", ".."];

impl NetworkPlan {
    pub(super) fn draw(draw: &mut Draw<'_>) -> Self {
        let mut features = draw.pick(&[3, 1, 2, 4, 5, 8, 9, 17]);
        let mut stages: Vec<(String, StagePlan)> = Vec::new();
        let alone = !draw.one_in(3);
        if !alone && draw.one_in(3) {
            let numbers = Numbers::of_weights(draw);
            stages.push(("embedding".to_owned(), StagePlan::Embedding { shape: [draw.pick(&[5, 1, 2, 30]), features], numbers }));
        }
        let others = if alone { 0 } else { draw.below(4) };
        let lstm_at = draw.below(others + 1);
        for place in 0..=others {
            let name = draw.maybe(3, |draw| draw.pick(NAMES).to_owned()).unwrap_or_else(|| format!("stage{place}"));
            // who gets the number of features wrong
            features = if draw.one_in(40) { features + 1 } else { features };
            let stage = if place == lstm_at || draw.one_in(4) { StagePlan::lstm(draw, features) } else { StagePlan::dense(draw, features) };
            features = stage.out_features().unwrap_or(features);
            stages.push((name, stage));
        }
        if draw.one_in(40) && !alone {
            stages.rotate_left(1);
        }
        Self { stages, batch_first: draw.one_in(2), alone }
    }

    pub(super) fn level(&self) -> Level {
        self.stages.iter().map(|(_, stage)| stage.level()).max().unwrap_or_default()
    }

    pub(super) fn build(&self, moved: Option<Moved>) -> Result<Network> {
        if let (true, [(_, StagePlan::Lstm(lstm))]) = (self.alone, &self.stages[..]) {
            return Ok(Network::from_lstm(lstm.build(moved)?, self.batch_first));
        }
        let stages = self.stages.iter().map(|(name, stage)| Ok((name.clone(), stage.build(moved)?)));
        Network::from_stages(stages.collect::<Result<_>>()?, self.batch_first)
    }

    /// The configuration of the first stack, as the weights have it.
    pub(super) fn first_config(&self) -> Option<&LstmConfig> {
        self.stages.iter().find_map(|(_, stage)| if let StagePlan::Lstm(lstm) = stage { Some(&lstm.joined) } else { None })
    }
}

impl StagePlan {
    fn lstm(draw: &mut Draw<'_>, input_size: usize) -> Self {
        let config = config(draw, input_size);
        let joined = if draw.one_in(16) { mistaken(config.clone(), draw) } else { config.clone() };
        let broken = draw.maybe(20, |draw| {
            use Broken::{CellTooFew, CellTooMany, Missing, NoCells, Shape, Superfluous};
            draw.pick(&[CellTooMany, CellTooFew, NoCells, Shape, Missing, Superfluous])
        });
        Self::Lstm(Box::new(LstmPlan { config, joined, numbers: Numbers::of_weights(draw), broken }))
    }

    fn dense(draw: &mut Draw<'_>, features: usize) -> Self {
        let function = match draw.below(4) {
            0 => RowFunction::None,
            1 => RowFunction::Softmax,
            2 => RowFunction::LogSoftmax,
            _ => RowFunction::Activation(activation(draw)),
        };
        if draw.one_in(3) {
            return Self::Function(function);
        }
        let outs = draw.pick(&[2, 1, 3, 5, 16, 33, 0]);
        let bias = draw.maybe(2, |draw| if draw.one_in(20) { outs + 1 } else { outs });
        Self::Linear { shape: [outs, features], bias, function, numbers: Numbers::of_weights(draw) }
    }

    fn out_features(&self) -> Option<usize> {
        match self {
            Self::Lstm(lstm) => Some(lstm.config.y_size()),
            Self::Embedding { shape, .. } => Some(shape[1]),
            Self::Linear { shape, .. } => Some(shape[0]),
            Self::Function(_) => None,
        }
    }

    fn level(&self) -> Level {
        match self {
            Self::Lstm(lstm) if lstm.config != lstm.joined => Level::Wild,
            Self::Lstm(lstm) => lstm.numbers.level(),
            Self::Embedding { numbers, .. } | Self::Linear { numbers, .. } => numbers.level(),
            Self::Function(_) => Level::Moderate,
        }
    }

    fn build(&self, moved: Option<Moved>) -> Result<Stage> {
        Ok(match self {
            Self::Lstm(lstm) => Stage::Lstm(lstm.build(moved)?),
            Self::Embedding { shape, numbers } => Stage::Dense(DenseStage::Embedding(Embedding::new(matrix(numbers.array(shape, 1.0, moved)))?)),
            Self::Linear { shape, bias, function, numbers } => {
                let scale = 1.0 / (shape[1] as f32).sqrt();
                let bias = bias.map(|len| vector(numbers.next(0).array(&[len], scale, moved)));
                Stage::Dense(DenseStage::Linear(Linear::new(matrix(numbers.array(shape, scale, moved)), bias)?, *function))
            }
            Self::Function(function) => Stage::Dense(DenseStage::Function(*function)),
        })
    }
}

impl LstmPlan {
    fn build(&self, moved: Option<Moved>) -> Result<Lstm> {
        let config = &self.config;
        let mut cells: Vec<CellWeights> = (0..config.num_cells()).map(|number| self.cell(number, moved)).collect();
        let last = cells.len() - 1;
        match self.broken {
            None => {}
            Some(Broken::CellTooMany) => cells.push(cells[last].clone()),
            Some(Broken::CellTooFew) => drop(cells.pop()),
            Some(Broken::NoCells) => cells.clear(),
            Some(Broken::Shape) => cells[last].weight_hh = Array2::zeros((GATES * config.hidden_size, config.out_size() + 1)),
            Some(Broken::Missing) => cells[last].bias_hh = None,
            Some(Broken::Superfluous) => cells[last].weight_hr = Some(Array2::zeros((1, config.hidden_size))),
        }
        let joined = moved.map_or_else(|| self.joined.clone(), |moved| shifted(self.joined.clone(), moved));
        Lstm::new(joined, cells)
    }

    /// Weights as PyTorch starts with; scales of a normalisation are around 1.
    fn cell(&self, number: usize, moved: Option<Moved>) -> CellWeights {
        let config = &self.config;
        let (gates, hidden, out) = (GATES * config.hidden_size, config.hidden_size, config.out_size());
        let scale = 1.0 / (hidden as f32).sqrt();
        let mut place = number * 16;
        let mut array = |shape: &[usize]| {
            place += 1;
            self.numbers.next(place).array(shape, scale, moved)
        };
        let input = config.layer_input_size(number / config.num_directions());
        CellWeights {
            weight_ih: matrix(array(&[gates, input])),
            weight_hh: matrix(array(&[gates, out])),
            bias_ih: config.bias.then(|| vector(array(&[gates]))),
            bias_hh: config.bias.then(|| vector(array(&[gates]))),
            weight_hr: config.proj_size.map(|proj| matrix(array(&[proj, hidden]))),
            peepholes: config.peepholes.then(|| matrix(array(&[3, hidden]))),
            layer_norm: config.layer_norm.map(|_| LayerNormWeights {
                gamma_ih: vector(array(&[gates])) + 1.0,
                gamma_hh: vector(array(&[gates])) + 1.0,
                gamma_c: vector(array(&[hidden])) + 1.0,
                beta_c: vector(array(&[hidden])),
            }),
        }
    }
}

fn matrix(array: ArrayD<f32>) -> Array2<f32> {
    array.into_dimensionality::<Ix2>().expect("a matrix was drawn")
}

fn vector(array: ArrayD<f32>) -> Array1<f32> {
    array.into_dimensionality::<Ix1>().expect("a vector was drawn")
}
