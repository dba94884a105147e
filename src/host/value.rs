//! Tensors of this crate as values of rten, and back. rten has `float32`, `int32`, `int8` and `uint8` alone.

use ndarray::{ArrayD, ArrayViewD};
use rten::{Value, ValueOrView};
use rten_tensor::{Layout, TensorView as RtenView};

use crate::error::{Error, Result};
use crate::tensor::{ElementType, Tensor, TensorView};

/// `tensor` as rten takes it: a view where its element type is one of rten's and its elements lie together, in whatever order of axes; else a copy.
/// `int64` and `bool` become `int32`, `float64` becomes `float32`, as they do in a model's constants.
pub(super) fn to_rten<'a>(name: &str, tensor: &'a TensorView<'_>) -> Result<ValueOrView<'a>> {
    match tensor {
        TensorView::F32(view) => Ok(borrowed(view)),
        TensorView::I32(view) => Ok(borrowed(view)),
        TensorView::I8(view) => Ok(borrowed(view)),
        TensorView::U8(view) => Ok(borrowed(view)),
        #[expect(clippy::cast_possible_truncation, reason = "rten computes float64 as float32")]
        TensorView::F64(view) => Ok(owned(view.shape(), view.iter().map(|&value| value as f32).collect())),
        TensorView::Bool(view) => Ok(owned(view.shape(), view.iter().map(|&value| i32::from(value)).collect())),
        TensorView::I64(view) => {
            let narrow = |value: &i64| {
                i32::try_from(*value).map_err(|_| Error::shape(format!("tensor `{name}`: expected int64 within int32 for the CPU, found {value}")))
            };
            Ok(owned(view.shape(), view.iter().map(narrow).collect::<Result<_>>()?))
        }
    }
}

fn owned<'a, T>(shape: &[usize], elements: Vec<T>) -> ValueOrView<'a>
where
    Value: From<rten_tensor::Tensor<T>>,
{
    ValueOrView::Value(rten_tensor::Tensor::from_data(shape, elements).into())
}

fn borrowed<'a, T: Copy>(view: &'a ArrayViewD<'_, T>) -> ValueOrView<'a>
where
    Value: From<rten_tensor::Tensor<T>>,
    rten::ValueView<'a>: From<RtenView<'a, T>>,
{
    if let Some(elements) = view.as_slice() {
        return ValueOrView::View(RtenView::from_data(view.shape(), elements).into());
    }
    let strides = view.strides().iter().map(|&stride| usize::try_from(stride)).collect::<std::result::Result<Vec<_>, _>>();
    let strided = view.as_slice_memory_order().zip(strides.ok());
    match strided.and_then(|(elements, strides)| RtenView::from_slice_with_strides(view.shape(), elements, &strides[..]).ok()) {
        Some(strided) => ValueOrView::View(strided.into()),
        None => owned(view.shape(), view.iter().copied().collect()),
    }
}

/// What rten computed, as `expected` where that is known, without a copy where rten has that type itself.
pub(super) fn from_rten(name: &str, value: Value, expected: Option<ElementType>) -> Result<Tensor> {
    let tensor = match value {
        Value::FloatTensor(tensor) => Tensor::F32(array(tensor)),
        Value::Int32Tensor(tensor) => Tensor::I32(array(tensor)),
        Value::Int8Tensor(tensor) => Tensor::I8(array(tensor)),
        Value::UInt8Tensor(tensor) => Tensor::U8(array(tensor)),
        _ => return Err(Error::config(format!("tensor `{name}`: expected a tensor, found a sequence"))),
    };
    match (tensor, expected) {
        (Tensor::F32(array), Some(ElementType::F64)) => Ok(Tensor::F64(array.mapv(f64::from))),
        (Tensor::I32(array), Some(ElementType::I64)) => Ok(Tensor::I64(array.mapv(i64::from))),
        (Tensor::I32(array), Some(ElementType::Bool)) => Ok(Tensor::Bool(array.mapv(|value| value != 0))),
        (tensor, None) => Ok(tensor),
        (tensor, Some(expected)) if tensor.view().element_type() == expected => Ok(tensor),
        (tensor, Some(expected)) => {
            Err(Error::format(format!("tensor `{name}`: the model declares {expected}, its nodes make {}", tensor.view().element_type())))
        }
    }
}

fn array<T: Clone>(tensor: rten_tensor::Tensor<T>) -> ArrayD<T> {
    let shape = tensor.shape().to_vec();
    ArrayD::from_shape_vec(shape, tensor.into_data()).expect("a tensor has as many elements as its shape says")
}
