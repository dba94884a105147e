//! The inputs of an operator.

use super::shape;
use crate::error::{Error, Result};
use crate::tensor::TensorView;

/// The inputs of an operator by place; those that a node leaves out are `None`.
pub(super) struct Operands<'i, 'a>(&'i [Option<TensorView<'a>>]);

impl<'i, 'a> Operands<'i, 'a> {
    /// `inputs`, without what is left out at the end. Checks how many there are.
    pub(super) fn new(inputs: &'i [Option<TensorView<'a>>], (least, most): (usize, usize)) -> Result<Self> {
        let count = inputs.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        if !(least..=most).contains(&count) {
            let rule = match most {
                usize::MAX => format!("{least} or more"),
                _ if least == most => least.to_string(),
                _ => format!("{least} to {most}"),
            };
            return Err(Error::config(format!("inputs: expected {rule}, found {count}")));
        }
        inputs.iter().flatten().try_for_each(|input| shape::check_rank(input.shape()))?;
        Ok(Self(&inputs[..count]))
    }

    pub(super) fn optional(&self, place: usize) -> Option<&'i TensorView<'a>> {
        self.0.get(place)?.as_ref()
    }

    pub(super) fn required(&self, place: usize) -> Result<&'i TensorView<'a>> {
        self.optional(place).ok_or_else(|| Error::config(format!("input {place}: expected a tensor, found none")))
    }

    /// Every input, all of which have to be there.
    pub(super) fn all(&self) -> Result<Vec<&'i TensorView<'a>>> {
        (0..self.0.len()).map(|place| self.required(place)).collect()
    }

    /// An input that is a list of whole numbers.
    pub(super) fn integers(&self, place: usize) -> Result<Vec<i64>> {
        shape::integers(self.required(place)?).map_err(|error| error.within(format!("input {place}")))
    }
}
