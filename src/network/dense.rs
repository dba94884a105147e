//! What a network has around its LSTMs: tables of vectors, linear layers, and functions of a row of features.

use ndarray::{Array1, Array2};

use crate::error::{Error, Result};
use crate::network::{Activation, Precision, precision};

/// A table of vectors, looked up by number: `y[..] = table[id[..]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding {
    table: Array2<f32>,
}

/// `y = x weight^T + bias`, for every row of features.
#[derive(Clone, Debug, PartialEq)]
pub struct Linear {
    weight: Array2<f32>,
    bias: Option<Array1<f32>>,
}

/// What is applied to each row of features, after a [`Linear`] or alone.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub enum RowFunction {
    /// nothing
    #[default]
    None,
    /// the same function of every feature
    Activation(Activation),
    /// `exp(x - max) / sum(exp(x - max))` over a row
    Softmax,
    /// `x - max - log(sum(exp(x - max)))` over a row
    LogSoftmax,
}

/// One of these, as a backend prepares it.
#[derive(Clone, Debug, PartialEq)]
pub enum DenseStage {
    /// ids `[..]` to vectors `[.., E]`
    Embedding(Embedding),
    /// `[.., I]` to `[.., F]`, and a function of each row of the result
    Linear(Linear, RowFunction),
    /// `[.., F]` to `[.., F]`
    Function(RowFunction),
}

impl Embedding {
    /// A table `[V, E]`.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) where the table is empty.
    pub fn new(table: Array2<f32>) -> Result<Self> {
        let (rows, columns) = table.dim();
        if rows == 0 || columns == 0 {
            return Err(Error::shape(format!(
                "tensor `table`: expected [num_embeddings, embedding_dim], both at least 1, found [{rows}, {columns}]"
            )));
        }
        Ok(Self { table: table.as_standard_layout().into_owned() })
    }

    /// V
    pub fn num_embeddings(&self) -> usize {
        self.table.nrows()
    }

    /// E
    pub fn embedding_dim(&self) -> usize {
        self.table.ncols()
    }

    /// `[V, E]`
    pub fn table(&self) -> &Array2<f32> {
        &self.table
    }

    /// Checks that every id is that of a vector.
    pub(crate) fn check_ids<'i>(&self, ids: impl IntoIterator<Item = &'i u32>) -> Result<()> {
        let wrong = ids.into_iter().enumerate().find(|(_, id)| **id as usize >= self.num_embeddings());
        wrong.map_or(Ok(()), |(place, id)| {
            let most = self.num_embeddings() - 1;
            Err(Error::shape(format!("tensor `ids`: expected numbers from 0 to num_embeddings - 1 = {most}, found {id} in place {place}")))
        })
    }
}

impl Linear {
    /// `weight [F, I]`, `bias [F]`.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) where the weight is empty or the bias is of another size.
    pub fn new(weight: Array2<f32>, bias: Option<Array1<f32>>) -> Result<Self> {
        let (rows, columns) = weight.dim();
        if rows == 0 || columns == 0 {
            return Err(Error::shape(format!("tensor `weight`: expected [out_features, in_features], both at least 1, found [{rows}, {columns}]")));
        }
        if let Some(bias) = bias.as_ref().filter(|bias| bias.len() != rows) {
            return Err(Error::shape(format!("tensor `bias`: expected [out_features] = [{rows}], found [{}]", bias.len())));
        }
        Ok(Self { weight: weight.as_standard_layout().into_owned(), bias })
    }

    /// I
    pub fn in_features(&self) -> usize {
        self.weight.ncols()
    }

    /// F
    pub fn out_features(&self) -> usize {
        self.weight.nrows()
    }

    /// `[F, I]`
    pub fn weight(&self) -> &Array2<f32> {
        &self.weight
    }

    /// `[F]`
    pub fn bias(&self) -> Option<&Array1<f32>> {
        self.bias.as_ref()
    }

    /// The layer with every weight at the value that it has once stored in `precision`; int8 has a scale for every output.
    ///
    /// # Errors
    /// As [`Linear::check_stored_as`].
    pub(crate) fn stored_as(&self, precision: Precision) -> Result<Self> {
        self.check_stored_as(precision)?;
        Ok(Self { weight: precision::stored(&self.weight, precision), bias: self.bias.clone() })
    }

    /// Whether every weight can be stored in `precision`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) where a weight cannot: beyond 65,504 in `float16`, not finite in `int8`.
    pub(crate) fn check_stored_as(&self, precision: Precision) -> Result<()> {
        precision.check(&self.weight, || "weight".to_owned())
    }
}

impl DenseStage {
    /// Features that a row of `x` has; `None` where any number will do, or `x` is ids.
    pub fn in_features(&self) -> Option<usize> {
        match self {
            Self::Linear(linear, _) => Some(linear.in_features()),
            Self::Embedding(_) | Self::Function(_) => None,
        }
    }

    /// How many numbers the weights hold.
    pub fn num_parameters(&self) -> usize {
        match self {
            Self::Embedding(embedding) => embedding.table.len(),
            Self::Linear(linear, _) => linear.weight.len() + linear.bias.as_ref().map_or(0, Array1::len),
            Self::Function(_) => 0,
        }
    }

    /// The shape of the result for an `x` of this shape.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) where `x` has no axis of features, or of another size than the weights'.
    pub fn y_shape(&self, x_shape: &[usize]) -> Result<Vec<usize>> {
        if let Self::Embedding(embedding) = self {
            return Ok([x_shape, &[embedding.embedding_dim()]].concat());
        }
        let Some((&features, rows)) = x_shape.split_last() else {
            return Err(Error::shape("tensor `x`: expected [.., features], found a scalar"));
        };
        match self {
            Self::Linear(linear, _) if features == linear.in_features() => Ok([rows, &[linear.out_features()]].concat()),
            Self::Linear(linear, _) => {
                Err(Error::shape(format!("tensor `x`: expected [.., in_features] with in_features = {}, found {x_shape:?}", linear.in_features())))
            }
            Self::Embedding(_) | Self::Function(_) => Ok(x_shape.to_vec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array1, Array2};

    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn shapes_are_checked() {
        let text = |result: Result<()>| {
            let error = result.expect_err("an error");
            assert_eq!(error.kind(), ErrorKind::Shape);
            error.to_string()
        };
        let empty = text(Embedding::new(Array2::zeros((0, 3))).map(drop));
        assert_eq!(empty, "tensor `table`: expected [num_embeddings, embedding_dim], both at least 1, found [0, 3]");
        let bias = text(Linear::new(Array2::zeros((4, 3)), Some(Array1::zeros(3))).map(drop));
        assert_eq!(bias, "tensor `bias`: expected [out_features] = [4], found [3]");
        let stage = DenseStage::Linear(Linear::new(Array2::zeros((4, 3)), None).expect("it is valid"), RowFunction::None);
        assert_eq!(stage.y_shape(&[5, 2, 3]).expect("it fits"), [5, 2, 4]);
        assert_eq!(text(stage.y_shape(&[3, 2]).map(drop)), "tensor `x`: expected [.., in_features] with in_features = 3, found [3, 2]");
        let table = Embedding::new(Array2::zeros((7, 3))).expect("it is valid");
        assert_eq!(text(table.check_ids(&[6, 7])), "tensor `ids`: expected numbers from 0 to num_embeddings - 1 = 6, found 7 in place 1");
        assert_eq!(DenseStage::Embedding(table).y_shape(&[]).expect("one id"), [3]);
    }

    #[test]
    fn weights_that_cannot_be_stored_are_refused() {
        let linear = Linear::new(Array2::from_elem((1, 2), 1e6), None).expect("it is valid");
        assert_eq!(
            linear.check_stored_as(Precision::F16).expect_err("too large").to_string(),
            "precision f16: needs weights of at most 65504, found 1000000 in weight"
        );
        assert!(linear.check_stored_as(Precision::Int8).is_ok());
    }
}
