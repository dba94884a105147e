//! Tensors at the border of the program: what goes into a session by name, and what comes out.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Index;

use ndarray::{ArrayD, ArrayView, ArrayViewD, Dimension};

use crate::error::{Error, Result};

macro_rules! element_types {
    ($($variant:ident, $element:ty, $name:literal;)*) => {
        /// The type of a tensor's elements.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum ElementType {
            $(#[doc = concat!("`", $name, "`")] $variant,)*
        }

        impl fmt::Display for ElementType {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $name,)* })
            }
        }

        /// A tensor that owns its elements.
        #[derive(Clone, Debug, PartialEq)]
        #[non_exhaustive]
        pub enum Tensor {
            $(#[doc = concat!("of `", $name, "`")] $variant(ArrayD<$element>),)*
        }

        /// A tensor whose elements belong to somebody else; made from any `ndarray` view by `into()`.
        #[derive(Clone, Debug)]
        #[non_exhaustive]
        pub enum TensorView<'a> {
            $(#[doc = concat!("of `", $name, "`")] $variant(ArrayViewD<'a, $element>),)*
        }

        impl Tensor {
            /// A view of the whole tensor.
            pub fn view(&self) -> TensorView<'_> {
                match self { $(Self::$variant(array) => TensorView::$variant(array.view()),)* }
            }
        }

        impl Tensor {
            /// The size of every axis.
            pub fn shape(&self) -> &[usize] {
                match self { $(Self::$variant(array) => array.shape(),)* }
            }
        }

        impl TensorView<'_> {
            /// A view of the same elements that lives no longer than this one.
            pub fn view(&self) -> TensorView<'_> {
                match self { $(Self::$variant(view) => TensorView::$variant(view.view()),)* }
            }

            /// The size of every axis.
            pub fn shape(&self) -> &[usize] {
                match self { $(Self::$variant(view) => view.shape(),)* }
            }

            /// The type of the elements.
            pub fn element_type(&self) -> ElementType {
                match self { $(Self::$variant(_) => ElementType::$variant,)* }
            }

            /// Bytes of all elements together.
            pub(crate) fn num_bytes(&self) -> usize {
                match self { $(Self::$variant(view) => view.len() * size_of::<$element>(),)* }
            }

            /// A copy that owns its elements.
            pub fn to_owned(&self) -> Tensor {
                match self { $(Self::$variant(view) => Tensor::$variant(view.to_owned()),)* }
            }
        }

        $(
            impl<'a, D: Dimension> From<ArrayView<'a, $element, D>> for TensorView<'a> {
                fn from(view: ArrayView<'a, $element, D>) -> Self {
                    Self::$variant(view.into_dyn())
                }
            }

            impl<D: Dimension> From<ndarray::Array<$element, D>> for Tensor {
                fn from(array: ndarray::Array<$element, D>) -> Self {
                    Self::$variant(array.into_dyn())
                }
            }
        )*
    };
}

element_types! {
    F32, f32, "float32";
    F64, f64, "float64";
    I32, i32, "int32";
    I64, i64, "int64";
    I8, i8, "int8";
    U8, u8, "uint8";
    Bool, bool, "bool";
}

impl Tensor {
    /// The tensor as integers or truth values of `element_type`, where it has such and the model says another; else as it is.
    pub(crate) fn of_type(self, element_type: ElementType) -> Self {
        match (self, element_type) {
            #[expect(clippy::cast_possible_truncation, reason = "the model says that they are int32")]
            (Self::I64(array), ElementType::I32) => array.mapv(|value| value as i32).into(),
            (Self::I32(array), ElementType::I64) => array.mapv(i64::from).into(),
            (Self::I32(array), ElementType::Bool) => array.mapv(|value| value != 0).into(),
            (Self::I64(array), ElementType::Bool) => array.mapv(|value| value != 0).into(),
            (tensor, _) => tensor,
        }
    }

    /// The elements, where they are `float32`.
    pub fn as_f32(&self) -> Option<&ArrayD<f32>> {
        if let Self::F32(array) = self { Some(array) } else { None }
    }
}

impl<'a> TensorView<'a> {
    /// The elements as `float32`, or an error that names the tensor.
    pub(crate) fn float32(&self, name: &str) -> Result<ArrayViewD<'a, f32>> {
        match self {
            Self::F32(view) => Ok(view.clone()),
            other => Err(Error::shape(format!("tensor `{name}`: expected float32, found {}", other.element_type()))),
        }
    }

    /// Puts the elements, which must be sequence lengths from 0 to `seq_len`, in the place of what `lens` held.
    pub(crate) fn sequence_lens(&self, name: &str, batch: usize, seq_len: usize, lens: &mut Vec<u32>) -> Result<()> {
        if self.shape() != [batch] {
            return Err(Error::shape(format!("tensor `{name}`: expected [batch] = [{batch}], found {:?}", self.shape())));
        }
        lens.clear();
        let mut add = |(row, value): (usize, i64)| {
            let length = usize::try_from(value).ok().filter(|&length| length <= seq_len).and_then(|length| u32::try_from(length).ok());
            lens.push(length.ok_or_else(|| {
                Error::shape(format!("tensor `{name}`: expected lengths from 0 to seq_len = {seq_len}, found {value} in row {row}"))
            })?);
            Ok(())
        };
        match self {
            Self::I32(view) => view.iter().map(|&value| i64::from(value)).enumerate().try_for_each(&mut add),
            Self::I64(view) => view.iter().copied().enumerate().try_for_each(&mut add),
            other => Err(Error::shape(format!("tensor `{name}`: expected int32 or int64, found {}", other.element_type()))),
        }
    }
}

/// The input tensors of one call, by name.
///
/// ```
/// let x = ndarray::Array3::<f32>::zeros((10, 2, 16));
/// let inputs = cellgate::Inputs::new().with("x", x.view());
/// assert_eq!(inputs.names().collect::<Vec<_>>(), ["x"]);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Inputs<'a>(BTreeMap<String, TensorView<'a>>);

impl<'a> Inputs<'a> {
    /// No inputs yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an input; one of the same name is replaced.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, tensor: impl Into<TensorView<'a>>) -> Self {
        self.insert(name, tensor);
        self
    }

    /// Adds an input; one of the same name is replaced.
    pub fn insert(&mut self, name: impl Into<String>, tensor: impl Into<TensorView<'a>>) {
        self.0.insert(name.into(), tensor.into());
    }

    /// The input called `name`.
    pub fn get(&self, name: &str) -> Option<&TensorView<'a>> {
        self.0.get(name)
    }

    /// The names of all inputs, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// The output tensors of one call, by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outputs(BTreeMap<String, Tensor>);

impl Outputs {
    /// The output called `name`.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.0.get(name)
    }

    /// Takes the output called `name` out.
    pub fn remove(&mut self, name: &str) -> Option<Tensor> {
        self.0.remove(name)
    }

    /// All outputs, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.0.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    pub(crate) fn insert(&mut self, name: impl Into<String>, tensor: impl Into<Tensor>) {
        self.0.insert(name.into(), tensor.into());
    }

    /// Adds what `other` holds, which is empty then; of one name, what `other` holds stays.
    pub(crate) fn append(&mut self, other: &mut Self) {
        self.0.append(&mut other.0);
    }

    /// Takes the array of an earlier output of this name and shape out, whatever its elements are now.
    pub(crate) fn reuse(&mut self, name: &str, shape: &[usize]) -> Option<ArrayD<f32>> {
        match self.0.remove(name) {
            Some(Tensor::F32(array)) if array.shape() == shape && array.is_standard_layout() => Some(array),
            _ => None,
        }
    }
}

impl Index<&str> for Outputs {
    type Output = ArrayD<f32>;

    /// The `float32` output called `name`.
    ///
    /// # Panics
    /// If there is no such output, or its elements are of another type; [`Outputs::get`] does not panic.
    fn index(&self, name: &str) -> &ArrayD<f32> {
        match self.get(name).map(|tensor| (tensor, tensor.as_f32())) {
            Some((_, Some(array))) => array,
            Some((tensor, None)) => panic!("output `{name}` is {}, not float32", tensor.view().element_type()),
            None => panic!("no output `{name}`; there are: {}", self.0.keys().map(String::as_str).collect::<Vec<_>>().join(", ")),
        }
    }
}
