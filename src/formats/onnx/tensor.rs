//! `TensorProto` -> [`Tensor`].

use half::{bf16, f16};
use ndarray::{ArrayD, IxDyn};

use super::proto::TensorProto;
use crate::error::{Error, Result};
use crate::tensor::{ElementType, Tensor};

/// `TensorProto.DataType` of `float32`.
pub(super) const FLOAT: i32 = 1;
/// `TensorProto.DataType` of `uint8`.
pub(super) const UINT8: i32 = 2;
/// `TensorProto.DataType` of `int8`.
pub(super) const INT8: i32 = 3;
/// `TensorProto.DataType` of `int32`.
pub(super) const INT32: i32 = 6;
/// `TensorProto.DataType` of `int64`.
pub(super) const INT64: i32 = 7;
/// `TensorProto.DataType` of `bool`.
pub(super) const BOOL: i32 = 9;
/// `TensorProto.DataType` of `float16`.
pub(super) const FLOAT16: i32 = 10;
/// `TensorProto.DataType` of `float64`.
pub(super) const DOUBLE: i32 = 11;
/// `TensorProto.DataType` of `bfloat16`.
pub(super) const BFLOAT16: i32 = 16;

/// How many axes a tensor may have.
const MAX_AXES: usize = 64;

/// `TensorProto.DataLocation.EXTERNAL`
pub(super) const EXTERNAL: i32 = 1;

/// What `TensorProto.DataType` calls an element type.
pub(super) fn type_name(data_type: i32) -> String {
    /// by number
    const NAMES: [&str; 17] = [
        "undefined",
        "float32",
        "uint8",
        "int8",
        "uint16",
        "int16",
        "int32",
        "int64",
        "string",
        "bool",
        "float16",
        "float64",
        "uint32",
        "uint64",
        "complex64",
        "complex128",
        "bfloat16",
    ];
    let name = usize::try_from(data_type).ok().and_then(|number| NAMES.get(number));
    name.map_or_else(|| format!("ONNX data type {data_type}"), |&name| name.to_owned())
}

/// The element type of a tensor that a call gives or returns; `None` for one that is not supported there.
pub(super) fn element_type(data_type: i32) -> Option<ElementType> {
    Some(match data_type {
        FLOAT => ElementType::F32,
        DOUBLE => ElementType::F64,
        INT32 => ElementType::I32,
        INT64 => ElementType::I64,
        INT8 => ElementType::I8,
        UINT8 => ElementType::U8,
        BOOL => ElementType::Bool,
        _ => return None,
    })
}

/// Whether the elements are floats narrower than `float32`, which are computed as `float32`.
pub(super) fn is_half(data_type: i32) -> bool {
    data_type == FLOAT16 || data_type == BFLOAT16
}

/// The tensor with its elements as they are, except that `float16` and `bfloat16` become `float32`.
pub(super) fn decode(name: &str, proto: &TensorProto) -> Result<Tensor> {
    if proto.data_location == EXTERNAL || !proto.external_data.is_empty() {
        let location = proto.external_data.iter().find(|entry| entry.key == "location").map_or("another file", |entry| entry.value.as_str());
        return Err(Error::config(format!(
            "tensor `{name}`: expected its data in the model file, found it in `{location}`; such a model is opened by its path"
        )));
    }
    Ok(match proto.data_type {
        FLOAT => array(name, proto, &proto.float_data, f32::from_le_bytes)?.into(),
        DOUBLE => array(name, proto, &proto.double_data, f64::from_le_bytes)?.into(),
        INT32 => array(name, proto, &proto.int32_data, i32::from_le_bytes)?.into(),
        INT64 => array(name, proto, &proto.int64_data, i64::from_le_bytes)?.into(),
        INT8 => array(name, proto, &narrow::<i8>(name, proto)?, i8::from_le_bytes)?.into(),
        UINT8 => array(name, proto, &narrow::<u8>(name, proto)?, u8::from_le_bytes)?.into(),
        BOOL => array(name, proto, &narrow::<u8>(name, proto)?, u8::from_le_bytes)?.mapv(|value| value != 0).into(),
        FLOAT16 => array(name, proto, &narrow::<u16>(name, proto)?, u16::from_le_bytes)?.mapv(|bits| f16::from_bits(bits).to_f32()).into(),
        BFLOAT16 => array(name, proto, &narrow::<u16>(name, proto)?, u16::from_le_bytes)?.mapv(|bits| bf16::from_bits(bits).to_f32()).into(),
        other => return Err(Error::shape(format!("tensor `{name}`: element type {} is not supported", type_name(other)))),
    })
}

/// The tensor as a message called `name`.
pub(super) fn encode(name: &str, tensor: &Tensor) -> TensorProto {
    /// the elements in order, as bytes
    fn bytes<T: Copy, const BYTES: usize>(array: &ArrayD<T>, to_le_bytes: fn(T) -> [u8; BYTES]) -> Vec<u8> {
        array.iter().flat_map(|&value| to_le_bytes(value)).collect()
    }
    let (data_type, raw_data) = match tensor {
        Tensor::F32(array) => (FLOAT, bytes(array, f32::to_le_bytes)),
        Tensor::F64(array) => (DOUBLE, bytes(array, f64::to_le_bytes)),
        Tensor::I32(array) => (INT32, bytes(array, i32::to_le_bytes)),
        Tensor::I64(array) => (INT64, bytes(array, i64::to_le_bytes)),
        Tensor::I8(array) => (INT8, bytes(array, i8::to_le_bytes)),
        Tensor::U8(array) => (UINT8, bytes(array, u8::to_le_bytes)),
        Tensor::Bool(array) => (BOOL, bytes(array, |value| [u8::from(value)])),
    };
    let dims = tensor.view().shape().iter().map(|&axis| i64::try_from(axis).unwrap_or(i64::MAX)).collect();
    TensorProto { name: name.to_owned(), dims, data_type, raw_data, ..TensorProto::default() }
}

/// Bytes of one element, for the types whose elements are all of one size.
fn element_bytes(data_type: i32) -> Option<usize> {
    Some(match data_type {
        2 | 3 | 9 => 1,
        4 | 5 | 10 | 16 => 2,
        1 | 6 | 12 => 4,
        7 | 11 | 13 | 14 => 8,
        15 => 16,
        _ => return None,
    })
}

/// Bytes of the elements as the file has them.
pub(super) fn num_bytes(proto: &TensorProto) -> usize {
    let typed =
        4 * (proto.float_data.len() + proto.int32_data.len()) + 8 * (proto.int64_data.len() + proto.double_data.len() + proto.uint64_data.len());
    proto.raw_data.len() + typed + proto.string_data.iter().map(Vec::len).sum::<usize>()
}

/// Bytes that the elements take in a file, as the axes say; `None` where that is not known, or is too much to be said.
pub(super) fn needed_bytes(proto: &TensorProto) -> Option<usize> {
    let (_, len) = shape(&proto.dims)?;
    len.checked_mul(element_bytes(proto.data_type)?)
}

/// Checks that there is as much data as `dims` says, whoever is to read the tensor.
pub(super) fn check_size(proto: &TensorProto) -> Result<()> {
    let name = &proto.name;
    let dims = &proto.dims;
    if dims.len() > MAX_AXES {
        return Err(Error::limit(format!("tensor `{name}`: expected at most {MAX_AXES} axes, found {}", dims.len())));
    }
    let (_, len) = shape(dims).ok_or_else(|| Error::format(format!("tensor `{name}`: expected axes that a tensor can have, found {dims:?}")))?;
    let Some(bytes) = element_bytes(proto.data_type) else { return Ok(()) };
    let typed = match proto.data_type {
        FLOAT => proto.float_data.len(),
        INT64 => proto.int64_data.len(),
        DOUBLE => proto.double_data.len(),
        12 | 13 => proto.uint64_data.len(),
        14 | 15 => return Ok(()),
        _ => proto.int32_data.len(),
    };
    let raw = &proto.raw_data;
    let fits = if raw.is_empty() { typed == len } else { len.checked_mul(bytes) == Some(raw.len()) };
    if fits {
        return Ok(());
    }
    let data = if raw.is_empty() { format!("{typed} elements") } else { format!("{} bytes", raw.len()) };
    Err(Error::format(format!("tensor `{name}`: expected {len} elements of {} for axes {dims:?}, found {data}", type_name(proto.data_type))))
}

/// `int32_data`, which also carries the elements of narrower types.
fn narrow<T: TryFrom<i32>>(name: &str, proto: &TensorProto) -> Result<Vec<T>> {
    let element = |&value: &i32| {
        T::try_from(value).map_err(|_| Error::format(format!("tensor `{name}`: expected elements of {}, found {value}", type_name(proto.data_type))))
    };
    proto.int32_data.iter().map(element).collect()
}

/// The array made of `raw_data`, or of `typed` where that is empty. Allocates only once the data is known to be as large as `dims` says.
fn array<T: Copy, const BYTES: usize>(name: &str, proto: &TensorProto, typed: &[T], from_le_bytes: fn([u8; BYTES]) -> T) -> Result<ArrayD<T>> {
    let dims = &proto.dims;
    let (axes, len) = shape(dims).ok_or_else(|| Error::format(format!("tensor `{name}`: expected axes that a tensor can have, found {dims:?}")))?;
    let raw = proto.raw_data.as_chunks::<BYTES>();
    let found = if proto.raw_data.is_empty() { typed.len() } else { raw.0.len() };
    if found != len || !raw.1.is_empty() {
        let data = if proto.raw_data.is_empty() { format!("{found} elements") } else { format!("{} bytes", proto.raw_data.len()) };
        return Err(Error::format(format!(
            "tensor `{name}`: expected {len} elements of {} for axes {dims:?}, found {data}",
            type_name(proto.data_type)
        )));
    }
    let values = if proto.raw_data.is_empty() { typed.to_vec() } else { raw.0.iter().map(|&bytes| from_le_bytes(bytes)).collect() };
    ArrayD::from_shape_vec(IxDyn(&axes), values)
        .map_err(|error| Error::format(format!("tensor `{name}`: expected axes that a tensor can have, found {dims:?}")).with_source(error))
}

/// The axes as sizes, and their product; `None` where one is negative or the product too large.
fn shape(dims: &[i64]) -> Option<(Vec<usize>, usize)> {
    let axes = dims.iter().map(|&dim| usize::try_from(dim).ok()).collect::<Option<Vec<_>>>()?;
    let len = axes.iter().try_fold(1_usize, |len, &axis| len.checked_mul(axis))?;
    Some((axes, len))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::formats::onnx::proto::StringStringEntryProto;

    fn proto(data_type: i32, dims: &[i64]) -> TensorProto {
        TensorProto { name: "W".to_owned(), data_type, dims: dims.to_vec(), ..TensorProto::default() }
    }

    #[test]
    fn floats_narrower_than_float32_become_float32() {
        let values = [1.5_f32, -0.25];
        let expected_of = |proto: &TensorProto| -> Tensor {
            if proto.data_type == DOUBLE { ndarray::arr1(&values.map(f64::from)).into() } else { ndarray::arr1(&values).into() }
        };
        let f16_bits = values.map(|v| f16::from_f32(v).to_bits());
        let bf16_bits = values.map(|v| bf16::from_f32(v).to_bits());
        let typed = [
            TensorProto { float_data: values.to_vec(), ..proto(FLOAT, &[2]) },
            TensorProto { double_data: values.map(f64::from).to_vec(), ..proto(DOUBLE, &[2]) },
            TensorProto { int32_data: f16_bits.map(i32::from).to_vec(), ..proto(FLOAT16, &[2]) },
            TensorProto { int32_data: bf16_bits.map(i32::from).to_vec(), ..proto(BFLOAT16, &[2]) },
        ];
        let raw = [
            TensorProto { raw_data: values.map(f32::to_le_bytes).concat(), ..proto(FLOAT, &[2]) },
            TensorProto { raw_data: values.map(|v| f64::from(v).to_le_bytes()).concat(), ..proto(DOUBLE, &[2]) },
            TensorProto { raw_data: f16_bits.map(u16::to_le_bytes).concat(), ..proto(FLOAT16, &[2]) },
            TensorProto { raw_data: bf16_bits.map(u16::to_le_bytes).concat(), ..proto(BFLOAT16, &[2]) },
        ];
        for proto in typed.iter().chain(&raw) {
            assert_eq!(decode("W", proto).expect("a tensor"), expected_of(proto), "{proto:?}");
        }
    }

    #[test]
    fn integers_keep_their_type() {
        let int32 = TensorProto { int32_data: vec![3, -4], ..proto(INT32, &[2]) };
        let int64 = TensorProto { raw_data: [3_i64, -4].map(i64::to_le_bytes).concat(), ..proto(INT64, &[2]) };
        let uint8 = TensorProto { raw_data: vec![3, 255], ..proto(UINT8, &[2]) };
        assert_eq!(decode("W", &int32).expect("int32"), ndarray::array![3_i32, -4].into());
        assert_eq!(decode("W", &int64).expect("int64"), ndarray::array![3_i64, -4].into());
        assert_eq!(decode("W", &uint8).expect("uint8"), ndarray::array![3_u8, 255].into());
    }

    #[test]
    fn every_type_survives_its_message() {
        let tensors: [Tensor; 7] = [
            ndarray::array![[1.5_f32], [-0.25]].into(),
            ndarray::array![1.5_f64].into(),
            ndarray::array![i32::MIN].into(),
            ndarray::arr0(i64::MAX).into(),
            ndarray::array![-128_i8, 127].into(),
            ndarray::array![255_u8].into(),
            ndarray::array![true, false].into(),
        ];
        for tensor in tensors {
            let proto = encode("W", &tensor);
            check_size(&proto).expect("a size that holds");
            assert_eq!((decode("W", &proto).expect("a tensor"), num_bytes(&proto)), (tensor.clone(), tensor.view().num_bytes()));
        }
    }

    #[test]
    fn dims_that_lie_are_refused() {
        let raw_data = [1.0_f32, 2.0].map(f32::to_le_bytes).concat();
        for dims in [&[3_i64] as &[i64], &[1], &[], &[-2], &[i64::MAX, i64::MAX], &[i64::MAX], &[0, i64::MAX, i64::MAX]] {
            let lying = TensorProto { raw_data: raw_data.clone(), ..proto(FLOAT, dims) };
            check_size(&lying).expect_err("lying dims");
            let error = decode("W", &lying).expect_err("lying dims");
            assert_eq!(error.kind(), ErrorKind::Format, "{error}");
            assert!(error.to_string().starts_with("tensor `W`: expected"), "{error}");
        }
        let odd = TensorProto { raw_data: raw_data[..7].to_vec(), ..proto(FLOAT, &[1]) };
        let error = decode("W", &odd).expect_err("7 bytes");
        assert_eq!(error.to_string(), "tensor `W`: expected 1 elements of float32 for axes [1], found 7 bytes");
        let typed = TensorProto { float_data: vec![1.0], ..proto(FLOAT, &[2]) };
        let error = decode("W", &typed).expect_err("1 element");
        assert_eq!(error.to_string(), "tensor `W`: expected 2 elements of float32 for axes [2], found 1 elements");
        let empty = decode("W", &proto(FLOAT, &[0, i64::MAX])).map(|tensor| tensor.view().shape().to_vec());
        assert!(empty.map_or_else(|error| error.kind() == ErrorKind::Format, |shape| shape[0] == 0));
    }

    #[test]
    fn values_outside_their_type_are_refused() {
        let error = decode("W", &TensorProto { int32_data: vec![256], ..proto(UINT8, &[1]) }).expect_err("256");
        assert_eq!(error.to_string(), "tensor `W`: expected elements of uint8, found 256");
        assert!(decode("W", &TensorProto { int32_data: vec![-1], ..proto(FLOAT16, &[1]) }).is_err());
    }

    #[test]
    fn unsupported_element_types_and_places_are_named() {
        let error = decode("W", &proto(8, &[0])).expect_err("texts");
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Shape, "tensor `W`: element type string is not supported"));
        let error = decode("W", &proto(-7, &[0])).expect_err("no type");
        assert_eq!(error.to_string(), "tensor `W`: element type ONNX data type -7 is not supported");
        let entry = StringStringEntryProto { key: "location".to_owned(), value: "w.bin".to_owned() };
        for proto in [TensorProto { external_data: vec![entry], ..proto(FLOAT, &[1]) }, TensorProto { data_location: EXTERNAL, ..proto(FLOAT, &[1]) }]
        {
            let error = decode("W", &proto).expect_err("external data");
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().starts_with("tensor `W`: expected its data in the model file"), "{error}");
        }
    }
}
