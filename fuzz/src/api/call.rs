//! The inputs of a call: what a network asks for, or nearly.

use cellgate::{AxisSize, ElementType, Inputs, Network, Port, Tensor, TensorView};
use ndarray::{ArrayD, ArrayViewD, IxDyn};

use super::draw::Draw;
use super::numbers::{Level, Moved, Numbers};
use crate::rng::Rng;

/// Axes that no machine has the memory for; with features, the second is beyond what can be counted.
const HUGE: [usize; 2] = [1 << 40, 1 << 58];

/// A call of some rows and steps.
#[derive(Clone, Copy, Debug)]
pub(super) struct CallPlan {
    pub(super) batch: usize,
    seq_len: usize,
    x: Numbers,
    lens: Option<Lens>,
    /// for `h_0` and `c_0`, of all stacks
    states: [Option<Numbers>; 2],
    /// whether axes lie in memory in another order
    strided: bool,
    mistake: Option<Mistake>,
    seed: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lens {
    /// from 0 to the number of steps
    Ragged,
    Int32,
    Full,
    Zeros,
    /// one is as given
    One(i64),
    /// one more than there are rows
    TooMany,
}

/// What is wrong with an input, the `place`th of the network's.
#[derive(Clone, Copy, Debug)]
struct Mistake {
    place: usize,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Missing,
    /// it has another name
    Name(&'static str),
    /// float64 or uint8
    Type,
    /// an axis is one longer
    Longer(usize),
    /// there is no axis of this number
    Fewer(usize),
    More,
    Scalar,
    /// an axis is empty
    Empty(usize),
    /// an axis is longer than any memory, with one number for all of it
    Endless(usize, usize),
    /// an id is none of the table's
    Id(i64),
}

/// An input, with the shape that it is seen in where that is more than its memory.
pub(super) struct Given {
    name: String,
    tensor: Tensor,
    endless: Option<Vec<usize>>,
}

impl CallPlan {
    /// A call of `batch` rows, or, where none are given, of any number.
    pub(super) fn draw(draw: &mut Draw<'_>, batch: Option<usize>) -> Self {
        let any = draw.pick(&[1, 2, 3, 5, 9]);
        Self {
            batch: batch.filter(|_| !draw.one_in(16)).unwrap_or(any),
            seq_len: draw.pick(&[1, 2, 3, 4, 7, 12, 0]),
            x: Numbers::draw(draw),
            lens: draw.maybe(4, |draw| {
                let wrong = draw.pick(&[-1, 1, 100, i64::MAX, i64::MIN]);
                draw.pick(&[
                    Lens::Ragged,
                    Lens::Ragged,
                    Lens::Ragged,
                    Lens::Ragged,
                    Lens::Int32,
                    Lens::Full,
                    Lens::Zeros,
                    Lens::One(wrong),
                    Lens::TooMany,
                ])
            }),
            states: [draw.maybe(4, Numbers::draw), draw.maybe(4, Numbers::draw)],
            strided: draw.one_in(5),
            mistake: draw.maybe(12, Mistake::draw),
            seed: draw.seed(),
        }
    }

    /// Of the numbers that go in.
    pub(super) fn level(&self) -> Level {
        let states = self.states.iter().flatten().map(|numbers| numbers.level());
        states.fold(self.x.level(), Level::max)
    }

    /// The same without initial states, for a call that carries them.
    pub(super) fn carried(self) -> Self {
        Self { states: [None; 2], ..self }
    }

    pub(super) fn inputs(&self, network: &Network, moved: Option<Moved>) -> Vec<Given> {
        let mut given: Vec<Given> = Vec::new();
        for (place, port) in network.inputs().iter().enumerate() {
            let what = self.mistake.filter(|mistake| mistake.place % network.inputs().len() == place).map(|mistake| mistake.what);
            let Some(mut input) = self.input(network, port, place, what, moved).filter(|_| what != Some(What::Missing)) else { continue };
            if let Some(What::Name(name)) = what {
                name.clone_into(&mut input.name);
            }
            given.push(input);
        }
        given
    }

    fn input(&self, network: &Network, port: &Port, place: usize, what: Option<What>, moved: Option<Moved>) -> Option<Given> {
        let mut shape: Vec<usize> = port.axes.iter().map(|axis| self.size(axis)).collect();
        let mut endless = None;
        let last = shape.len() - 1;
        match what {
            Some(What::Longer(axis)) => shape[axis.min(last)] += 1,
            Some(What::Fewer(axis)) => drop(shape.remove(axis.min(last))),
            Some(What::More) => shape.insert(0, 1),
            Some(What::Scalar) => shape.clear(),
            Some(What::Empty(axis)) => shape[axis.min(last)] = 0,
            Some(What::Endless(axis, len)) => {
                shape[axis.min(last)] = 1;
                let mut seen = shape.clone();
                seen[axis.min(last)] = len;
                endless = Some(seen);
            }
            _ => {}
        }
        let numbers = match port.name.as_str() {
            "sequence_lens" => return Some(self.lens(&shape, what, endless)?.named(&port.name)),
            "x" if port.element_type != ElementType::F32 => {
                return Some(Given { endless, ..self.ids(&shape, network.num_ids("x").unwrap_or(1), what) }.named(&port.name));
            }
            "x" => self.x,
            name => self.states[usize::from(name.ends_with("c_0"))]?.next(place),
        };
        let array = if self.strided { numbers.strided(&shape, moved) } else { numbers.array(&shape, 1.0, moved) };
        let tensor = if what == Some(What::Type) { array.mapv(f64::from).into() } else { array.into() };
        Some(Given { name: port.name.clone(), tensor, endless })
    }

    fn size(&self, axis: &AxisSize) -> usize {
        match axis {
            AxisSize::Fixed(size) => *size,
            AxisSize::Named(name) if name == "batch" => self.batch,
            AxisSize::Named(_) => self.seq_len,
        }
    }

    fn lens(&self, shape: &[usize], what: Option<What>, endless: Option<Vec<usize>>) -> Option<Given> {
        let lens = self.lens?;
        let mut rng = Rng::new(self.seed);
        let longest = i64::try_from(self.seq_len).expect("a small number");
        let mut shape = shape.to_vec();
        if let (Lens::TooMany, Some(batch)) = (lens, shape.first_mut()) {
            *batch += 1;
        }
        let mut values = ArrayD::from_shape_simple_fn(IxDyn(&shape), || match lens {
            Lens::Ragged | Lens::Int32 => i64::try_from(rng.below(self.seq_len + 1)).expect("a small number"),
            Lens::Zeros => 0,
            Lens::Full | Lens::One(_) | Lens::TooMany => longest,
        });
        if let (Lens::One(wrong), Some(value)) = (lens, values.iter_mut().last()) {
            *value = wrong;
        }
        let tensor = match (lens, what) {
            (_, Some(What::Type)) => values.mapv(|value| value as f32).into(),
            (Lens::Int32, _) => values.mapv(|value| i32::try_from(value).expect("a small number")).into(),
            _ => values.into(),
        };
        Some(Given { name: String::new(), tensor, endless })
    }

    /// Ids of the table, some counted from its end.
    fn ids(&self, shape: &[usize], num_ids: usize, what: Option<What>) -> Given {
        let mut rng = Rng::new(self.seed);
        let size = i64::try_from(num_ids).expect("a small number");
        let id = || i64::try_from(rng.below(num_ids)).expect("a small number") - if self.strided { size } else { 0 };
        let mut ids = ArrayD::from_shape_simple_fn(IxDyn(shape), id);
        if let (Some(What::Id(wrong)), Some(id)) = (what, ids.iter_mut().last()) {
            *id = wrong;
        }
        let tensor = if what == Some(What::Type) { ids.mapv(|id| id % 2 == 0).into() } else { ids.into() };
        Given { name: String::new(), tensor, endless: None }
    }
}

impl Mistake {
    fn draw(draw: &mut Draw<'_>) -> Self {
        let axis = draw.below(3);
        let id = draw.pick(&[30, -31, i64::MAX, i64::MIN]);
        let endless = draw.pick(&HUGE);
        let what = draw.pick(&[
            What::Missing,
            What::Name("nobody"),
            What::Name(""),
            What::Type,
            What::Longer(axis),
            What::Fewer(axis),
            What::More,
            What::Scalar,
            What::Empty(axis),
            What::Endless(axis, endless),
            What::Id(id),
        ]);
        Self { place: draw.pick(&[0, 0, 1, 2, 3, 4]), what }
    }
}

impl Given {
    fn named(self, name: &str) -> Self {
        Self { name: name.to_owned(), ..self }
    }

    fn view(&self) -> TensorView<'_> {
        fn seen<'a, T>(array: &'a ArrayD<T>, endless: Option<&Vec<usize>>) -> ArrayViewD<'a, T> {
            // some shapes are beyond what a view can have
            endless.and_then(|shape| array.broadcast(IxDyn(shape))).unwrap_or_else(|| array.view())
        }
        let endless = self.endless.as_ref();
        match &self.tensor {
            Tensor::F32(array) => seen(array, endless).into(),
            Tensor::F64(array) => seen(array, endless).into(),
            Tensor::I32(array) => seen(array, endless).into(),
            Tensor::I64(array) => seen(array, endless).into(),
            other => other.view(),
        }
    }
}

/// All of them, as a session takes them.
pub(super) fn inputs(given: &[Given]) -> Inputs<'_> {
    given.iter().fold(Inputs::new(), |inputs, given| inputs.with(given.name.clone(), given.view()))
}
