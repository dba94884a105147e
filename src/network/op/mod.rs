//! Small operators beside the LSTMs, on tensors of the host: shapes, layouts, and arithmetic on a few numbers.

mod arithmetic;
mod element;
mod layout;
mod moves;
mod operands;
mod reduce;
mod select;
mod shape;
#[cfg(test)]
mod tests;

pub(crate) use self::arithmetic::{Binary, Compare, Logic, Unary};
use self::element::{Element, cast, each};
use self::operands::Operands;
pub(crate) use self::reduce::Reduction;
use self::shape::Budget;
use crate::error::{Error, Result};
use crate::network::Strided;
use crate::tensor::{ElementType, Tensor, TensorView};

/// An operator that is run here; its meaning is that of ONNX. An option that newer opsets give as an input is `None` where it comes as one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Op {
    Identity,
    Cast {
        to: ElementType,
    },
    Shape {
        start: i64,
        end: Option<i64>,
    },
    Size,
    Transpose {
        perm: Option<Vec<i64>>,
    },
    Reshape {
        allow_zero: bool,
    },
    Flatten {
        axis: i64,
    },
    Squeeze {
        axes: Option<Vec<i64>>,
    },
    Unsqueeze {
        axes: Option<Vec<i64>>,
    },
    Slice {
        ranges: Option<Ranges>,
    },
    Split {
        axis: i64,
        parts: Parts,
    },
    Expand,
    Tile,
    Concat {
        axis: i64,
    },
    Gather {
        axis: i64,
    },
    Where,
    NonZero,
    ReverseSequence {
        batch_axis: i64,
        time_axis: i64,
    },
    /// of a tensor of one element
    ConstantOfShape {
        value: Tensor,
    },
    Range,
    Binary(Binary),
    /// the same over one input or more: `Sum`, `Min`, `Max`
    Fold(Binary),
    Compare(Compare),
    Logic(Logic),
    Not,
    Unary(Unary),
    Reduce {
        how: Reduction,
        axes: Option<Vec<i64>>,
        keep_dims: bool,
        none_is_none: bool,
    },
}

/// What `Slice` takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ranges {
    pub(crate) starts: Vec<i64>,
    pub(crate) ends: Vec<i64>,
    /// the first ones where there are none
    pub(crate) axes: Option<Vec<i64>>,
    /// 1 where there are none
    pub(crate) steps: Option<Vec<i64>>,
}

/// What `Split` makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parts {
    /// sizes on the axis; parts of one size where there are none
    pub(crate) sizes: Option<Vec<i64>>,
    /// how many
    pub(crate) outputs: usize,
    /// whether the last part may be smaller
    pub(crate) uneven: bool,
}

impl Op {
    /// Runs the operator. `budget` is how many bytes its results may take; where they would take more it is an error of
    /// [`ErrorKind::Limit`](crate::ErrorKind::Limit), before anything is allocated.
    pub(crate) fn run(&self, inputs: &[Option<TensorView<'_>>], budget: usize) -> Result<Vec<Tensor>> {
        self.results(inputs, Budget(budget)).map_err(|error| self.named(error))
    }

    /// Where the results are when the elements of the first input, which is at `input`, stay where they are; `others` are the inputs after it.
    /// `None` where the operator makes new elements, or an order that strides cannot say.
    pub(crate) fn relayout(&self, input: &Strided, others: &[Option<TensorView<'_>>]) -> Result<Option<Vec<Strided>>> {
        let places = || {
            let (least, most) = self.arity();
            let mut inputs = Vec::with_capacity(1 + others.len());
            inputs.push(None);
            inputs.extend(others.iter().map(|other| other.as_ref().map(TensorView::view)));
            // an input that is not here counts only by those after it
            let operands = Operands::new(&inputs, (if least <= 1 { 0 } else { least }, most))?;
            shape::len(&input.shape)?;
            let Some(outputs) = self.moves(&input.shape, &operands)? else { return Ok(None) };
            outputs.iter().try_for_each(|moves| moves::shape_after(&input.shape, moves).map(drop))?;
            Ok(outputs.iter().map(|moves| moves::relaid(input, moves)).collect())
        };
        places().map_err(|error| self.named(error))
    }

    /// Whether the operator can leave the elements of its first input where they are.
    pub(crate) fn moves_elements_nowhere(&self) -> bool {
        matches!(
            self,
            Self::Identity
                | Self::Transpose { .. }
                | Self::Reshape { .. }
                | Self::Flatten { .. }
                | Self::Squeeze { .. }
                | Self::Unsqueeze { .. }
                | Self::Slice { .. }
                | Self::Split { .. }
                | Self::Gather { .. }
        )
    }

    /// The result where it follows from the shape of the input alone: that of `Shape` and `Size`.
    pub(crate) fn of_shape(&self, sizes: &[usize]) -> Option<Tensor> {
        let number = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        match *self {
            Self::Shape { start, end } => {
                let rank = number(sizes.len());
                let place = |value: i64| usize::try_from(if value < 0 { value.saturating_add(rank) } else { value }.clamp(0, rank)).unwrap_or(0);
                let (start, end) = (place(start), place(end.unwrap_or(rank)));
                Some(sizes[start.min(end)..end].iter().map(|&size| number(size)).collect::<ndarray::Array1<i64>>().into())
            }
            Self::Size => Some(ndarray::arr0(number(shape::len(sizes).unwrap_or(usize::MAX))).into()),
            _ => None,
        }
    }

    fn results(&self, inputs: &[Option<TensorView<'_>>], mut budget: Budget) -> Result<Vec<Tensor>> {
        let operands = Operands::new(inputs, self.arity())?;
        let first = operands.required(0)?;
        if let Some(outputs) = self.moves(first.shape(), &operands)? {
            return each!(first, view => {
                let shapes = outputs.iter().map(|moves| moves::shape_after(view.shape(), moves)).collect::<Result<Vec<_>>>()?;
                shapes.iter().try_for_each(|shape| take_like(&mut budget, shape, view))?;
                outputs.iter().map(|moves| moves::copied(view.view(), moves).map(Element::tensor)).collect()
            });
        }
        if let Some(tensor) = self.of_shape(first.shape()) {
            budget.take::<i64>(tensor.view().shape())?;
            return Ok(vec![tensor]);
        }
        let result = match self {
            Self::Cast { to } => cast_to(first, *to, &mut budget),
            Self::Concat { axis } => select::concat(&operands.all()?, *axis, &mut budget),
            Self::Gather { axis } => select::gather(first, operands.required(1)?, *axis, &mut budget),
            Self::Where => select::choose(first, operands.required(1)?, operands.required(2)?, &mut budget),
            Self::NonZero => select::non_zero(first, &mut budget),
            Self::ReverseSequence { batch_axis, time_axis } => {
                select::reverse_sequence(first, operands.required(1)?, *batch_axis, *time_axis, &mut budget)
            }
            Self::ConstantOfShape { value } => select::constant(&shape::sizes(&operands.integers(0)?)?, value, &mut budget),
            Self::Range => select::range(first, operands.required(1)?, operands.required(2)?, &mut budget),
            Self::Binary(binary) | Self::Fold(binary) => binary.run(&operands.all()?, &mut budget),
            Self::Compare(compare) => compare.run(first, operands.required(1)?, &mut budget),
            Self::Logic(logic) => logic.run(first, operands.required(1)?, &mut budget),
            Self::Not => arithmetic::not(first, &mut budget),
            Self::Unary(unary) => unary.run(first, &mut budget),
            Self::Reduce { how, axes, keep_dims, none_is_none } => {
                let axes = layout::optional(axes.as_deref(), &operands)?;
                how.run(first, axes.as_deref().unwrap_or_default(), *keep_dims, *none_is_none, &mut budget)
            }
            _ => Err(Error::config("expected an operator that makes new elements, found one of layout")),
        };
        result.map(|tensor| vec![tensor])
    }

    /// The least and the most inputs.
    fn arity(&self) -> (usize, usize) {
        match self {
            Self::Squeeze { axes: None } | Self::Split { parts: Parts { sizes: None, .. }, .. } | Self::Reduce { axes: None, .. } => (1, 2),
            Self::Unsqueeze { axes: None } => (2, 2),
            Self::Slice { ranges: None } => (3, 5),
            Self::Reshape { .. } | Self::Expand | Self::Tile | Self::Gather { .. } | Self::ReverseSequence { .. } => (2, 2),
            Self::Binary(_) | Self::Compare(_) | Self::Logic(_) => (2, 2),
            Self::Concat { .. } | Self::Fold(_) => (1, usize::MAX),
            Self::Range | Self::Where => (3, 3),
            _ => (1, 1),
        }
    }

    /// `error`, about this operator.
    fn named(&self, error: Error) -> Error {
        error.within(format!("operator `{}`", self.name()))
    }

    /// What ONNX calls the operator.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Identity => "Identity",
            Self::Cast { .. } => "Cast",
            Self::Shape { .. } => "Shape",
            Self::Size => "Size",
            Self::Transpose { .. } => "Transpose",
            Self::Reshape { .. } => "Reshape",
            Self::Flatten { .. } => "Flatten",
            Self::Squeeze { .. } => "Squeeze",
            Self::Unsqueeze { .. } => "Unsqueeze",
            Self::Slice { .. } => "Slice",
            Self::Split { .. } => "Split",
            Self::Expand => "Expand",
            Self::Tile => "Tile",
            Self::Concat { .. } => "Concat",
            Self::Gather { .. } => "Gather",
            Self::Where => "Where",
            Self::NonZero => "NonZero",
            Self::ReverseSequence { .. } => "ReverseSequence",
            Self::ConstantOfShape { .. } => "ConstantOfShape",
            Self::Range => "Range",
            Self::Fold(Binary::Add) => "Sum",
            Self::Binary(binary) | Self::Fold(binary) => binary.name(),
            Self::Compare(compare) => compare.name(),
            Self::Logic(logic) => logic.name(),
            Self::Not => "Not",
            Self::Unary(unary) => unary.name(),
            Self::Reduce { how, .. } => how.name(),
        }
    }
}

/// Takes the room for a result with elements like those of `view`.
fn take_like<T: Element>(budget: &mut Budget, shape: &[usize], _view: &ndarray::ArrayViewD<'_, T>) -> Result<()> {
    budget.take::<T>(shape)
}

fn cast_to(tensor: &TensorView<'_>, to: ElementType, budget: &mut Budget) -> Result<Tensor> {
    fn to_type<To: Element>(tensor: &TensorView<'_>, budget: &mut Budget) -> Result<Tensor> {
        budget.take::<To>(tensor.shape())?;
        cast::<To>(tensor).map(Element::tensor)
    }
    match to {
        ElementType::F32 => to_type::<f32>(tensor, budget),
        ElementType::F64 => to_type::<f64>(tensor, budget),
        ElementType::I32 => to_type::<i32>(tensor, budget),
        ElementType::I64 => to_type::<i64>(tensor, budget),
        ElementType::I8 => to_type::<i8>(tensor, budget),
        ElementType::U8 => to_type::<u8>(tensor, budget),
        ElementType::Bool => to_type::<bool>(tensor, budget),
    }
}
