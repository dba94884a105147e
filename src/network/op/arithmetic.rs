//! Operators that make every element of those in the same place.

use ndarray::{ArrayD, ArrayViewD, IxDyn, Zip};

use super::element::{Element, Number, cast, cast_element, collect, each, each_number};
use super::shape::{self, Budget};
use crate::error::{Error, Result};
use crate::tensor::{Tensor, TensorView};

/// An operator on two numbers of one type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Binary {
    Add,
    Sub,
    Mul,
    /// towards zero for integers
    Div,
    /// with the sign of the divisor; with `fmod` that of the dividend
    Mod {
        fmod: bool,
    },
    /// whose exponent may be of another type
    Pow,
    Min,
    Max,
}

/// An operator that compares two elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compare {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// An operator on two truth values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Logic {
    And,
    Or,
    Xor,
}

/// An operator on one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unary {
    Neg,
    Abs,
    Sign,
    Floor,
    Ceil,
    /// halves to the even neighbour
    Round,
    Sqrt,
    Reciprocal,
    Exp,
    Log,
}

impl Binary {
    /// What ONNX calls the operator.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Add => "Add",
            Self::Sub => "Sub",
            Self::Mul => "Mul",
            Self::Div => "Div",
            Self::Mod { .. } => "Mod",
            Self::Pow => "Pow",
            Self::Min => "Min",
            Self::Max => "Max",
        }
    }

    /// From the first of `tensors` to the last.
    pub(super) fn run(self, tensors: &[&TensorView<'_>], budget: &mut Budget) -> Result<Tensor> {
        let shape = shape::broadcast(tensors.iter().map(|tensor| tensor.shape()))?;
        let Some((first, others)) = tensors.split_first() else { return Err(Error::config("inputs: expected 1 or more, found 0")) };
        each_number!(first, view => self.fold(view, others, &shape, budget))
    }

    fn fold<T: Number>(self, first: &ArrayViewD<'_, T>, others: &[&TensorView<'_>], shape: &[usize], budget: &mut Budget) -> Result<Tensor> {
        // all types before any work
        if self != Self::Pow {
            others.iter().try_for_each(|other| like::<T>(other).map(drop))?;
        }
        budget.take::<T>(shape)?;
        let mut result = collect(shape, spread(first, shape)?.iter().copied())?;
        for other in others {
            match self {
                Self::Pow => power(&mut result, other)?,
                _ => self.apply(&mut result, &like::<T>(other)?)?,
            }
        }
        Ok(T::tensor(result))
    }

    fn apply<T: Number>(self, result: &mut ArrayD<T>, other: &ArrayViewD<'_, T>) -> Result<()> {
        let function = match self {
            Self::Add => T::add,
            Self::Sub => T::sub,
            Self::Mul => T::mul,
            Self::Div => T::div,
            Self::Mod { fmod: true } => T::rem,
            Self::Mod { fmod: false } if T::FLOAT => {
                return Err(Error::shape(format!("expected integers where attribute `fmod` is 0, found {}", T::TYPE)));
            }
            Self::Mod { fmod: false } => T::modulo,
            Self::Min => Number::min,
            Self::Max => Number::max,
            Self::Pow => return Err(Error::config("expected an operator on one type, found Pow")),
        };
        let divides = matches!(self, Self::Div | Self::Mod { .. }) && !T::FLOAT;
        if divides && !result.is_empty() && other.iter().any(|&value| value == T::from_i64(0)) {
            return Err(Error::shape("divisor: expected no 0 among integers, found one"));
        }
        let shape = result.shape().to_vec();
        let other = spread(other, &shape)?;
        Zip::from(result).and(&other).for_each(|value, &other| *value = function(*value, other));
        Ok(())
    }
}

/// Raises `result` to the power of `exponents`, of any type of number.
fn power<T: Number>(result: &mut ArrayD<T>, exponents: &TensorView<'_>) -> Result<()> {
    let shape = result.shape().to_vec();
    let float = each_number!(exponents, view => Ok(float_type(view)))?;
    if T::FLOAT || float {
        let exponents = cast::<f64>(exponents)?;
        Zip::from(result).and(&spread(&exponents.view(), &shape)?).for_each(|value, &exponent| *value = T::from_f64(value.to_f64().powf(exponent)));
        return Ok(());
    }
    let exponents = cast::<i64>(exponents)?;
    let (exponents, zero) = (spread(&exponents.view(), &shape)?.to_owned(), T::from_i64(0));
    if Zip::from(&*result).and(&exponents).any(|&value, &exponent| value == zero && exponent < 0) {
        return Err(Error::shape("base: expected no 0 to a negative power among integers, found one"));
    }
    Zip::from(result).and(&exponents).for_each(|value, &exponent| *value = whole_power(*value, exponent));
    Ok(())
}

fn float_type<T: Element>(_view: &ArrayViewD<'_, T>) -> bool {
    T::FLOAT
}

/// `base` to the power of `exponent`, wrapping around; of a negative one what is left of the fraction, whose `base` is not 0.
fn whole_power<T: Number>(base: T, exponent: i64) -> T {
    let one = T::from_i64(1);
    if exponent < 0 && base != one && base.mul(base) != one {
        return T::from_i64(0);
    }
    let (mut result, mut square, mut left) = (one, base, exponent.unsigned_abs());
    while left > 0 {
        if left % 2 == 1 {
            result = result.mul(square);
        }
        square = square.mul(square);
        left /= 2;
    }
    result
}

impl Compare {
    /// What ONNX calls the operator.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Equal => "Equal",
            Self::Less => "Less",
            Self::LessOrEqual => "LessOrEqual",
            Self::Greater => "Greater",
            Self::GreaterOrEqual => "GreaterOrEqual",
        }
    }

    pub(super) fn run(self, left: &TensorView<'_>, right: &TensorView<'_>, budget: &mut Budget) -> Result<Tensor> {
        match self {
            Self::Equal => each!(left, left => pairs(left, right, budget, |left, right| left == right)),
            Self::Less => each_number!(left, left => pairs(left, right, budget, |left, right| left < right)),
            Self::LessOrEqual => each_number!(left, left => pairs(left, right, budget, |left, right| left <= right)),
            Self::Greater => each_number!(left, left => pairs(left, right, budget, |left, right| left > right)),
            Self::GreaterOrEqual => each_number!(left, left => pairs(left, right, budget, |left, right| left >= right)),
        }
    }
}

impl Logic {
    /// What ONNX calls the operator.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::And => "And",
            Self::Or => "Or",
            Self::Xor => "Xor",
        }
    }

    pub(super) fn run(self, left: &TensorView<'_>, right: &TensorView<'_>, budget: &mut Budget) -> Result<Tensor> {
        let left = like::<bool>(left)?;
        pairs(&left, right, budget, |left, right| match self {
            Self::And => left && right,
            Self::Or => left || right,
            Self::Xor => left != right,
        })
    }
}

/// One truth value for each pair.
fn pairs<T: Element>(left: &ArrayViewD<'_, T>, right: &TensorView<'_>, budget: &mut Budget, holds: impl Fn(T, T) -> bool) -> Result<Tensor> {
    let right = like::<T>(right)?;
    let shape = shape::broadcast([left.shape(), right.shape()].into_iter())?;
    budget.take::<bool>(&shape)?;
    let (left, right) = (spread(left, &shape)?, spread(&right, &shape)?);
    collect(&shape, left.iter().zip(&right).map(|(&left, &right)| holds(left, right))).map(Element::tensor)
}

pub(super) fn not(tensor: &TensorView<'_>, budget: &mut Budget) -> Result<Tensor> {
    let view = like::<bool>(tensor)?;
    budget.take::<bool>(view.shape())?;
    collect(view.shape(), view.iter().map(|value| !value)).map(Element::tensor)
}

impl Unary {
    /// What ONNX calls the operator.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Neg => "Neg",
            Self::Abs => "Abs",
            Self::Sign => "Sign",
            Self::Floor => "Floor",
            Self::Ceil => "Ceil",
            Self::Round => "Round",
            Self::Sqrt => "Sqrt",
            Self::Reciprocal => "Reciprocal",
            Self::Exp => "Exp",
            Self::Log => "Log",
        }
    }

    pub(super) fn run(self, tensor: &TensorView<'_>, budget: &mut Budget) -> Result<Tensor> {
        each_number!(tensor, view => self.number(view, budget))
    }

    fn number<T: Number>(self, view: &ArrayViewD<'_, T>, budget: &mut Budget) -> Result<Tensor> {
        let zero = T::from_i64(0);
        if !T::FLOAT && !matches!(self, Self::Neg | Self::Abs | Self::Sign) {
            return Err(Error::shape(format!("expected float32 or float64, found {}", T::TYPE)));
        }
        if self == Self::Neg && T::LOWEST == zero {
            return Err(Error::shape(format!("expected numbers with a sign, found {}", T::TYPE)));
        }
        budget.take::<T>(view.shape())?;
        // rounding once more, from f64, changes no result of Sqrt and Reciprocal
        let float = |function: fn(f64) -> f64| collect(view.shape(), view.iter().map(|&value| T::from_f64(function(value.to_f64()))));
        let number = |function: &dyn Fn(T) -> T| collect(view.shape(), view.iter().map(|&value| function(value)));
        let result = match self {
            Self::Neg if T::FLOAT => float(|value| -value),
            Self::Neg => number(&|value| zero.sub(value)),
            Self::Abs if T::FLOAT => float(f64::abs),
            Self::Abs => number(&|value| if value < zero { zero.sub(value) } else { value }),
            Self::Sign => number(&|value| if value > zero { cast_element(1_i64) } else { if value < zero { cast_element(-1_i64) } else { value } }),
            Self::Floor => float(f64::floor),
            Self::Ceil => float(f64::ceil),
            Self::Round => float(f64::round_ties_even),
            Self::Sqrt => float(f64::sqrt),
            Self::Reciprocal => float(f64::recip),
            Self::Exp => float(f64::exp),
            Self::Log => float(f64::ln),
        };
        result.map(Element::tensor)
    }
}

/// The elements of an input that must be of the type of another.
pub(super) fn like<'a, T: Element>(tensor: &TensorView<'a>) -> Result<ArrayViewD<'a, T>> {
    T::of(tensor).ok_or_else(|| Error::shape(format!("inputs: expected {} like the others, found {}", T::TYPE, tensor.element_type())))
}

/// `view` as a tensor of `shape`, to which it broadcasts.
pub(super) fn spread<'v, T>(view: &'v ArrayViewD<'_, T>, shape: &[usize]) -> Result<ArrayViewD<'v, T>> {
    view.broadcast(IxDyn(shape)).ok_or_else(|| Error::shape(format!("shapes: expected one that broadcasts to {shape:?}, found {:?}", view.shape())))
}
