//! The npy format of `numpy`: reading and writing one array.

use std::fs;
use std::io;
use std::path::Path;

use half::f16;
use ndarray::{ArrayD, IxDyn, ShapeBuilder};
use ndarray_npy::WriteNpyExt;
use ndarray_npy::npy::header::Header;

use crate::error::{self, Error, Result};
use crate::formats::temporary::Temporary;
use crate::tensor::Tensor;

const MAGIC: &[u8] = b"\x93NUMPY";

/// The limit of `numpy` itself (`max_header_size`), many times what an array of numbers needs.
const MAX_HEADER_BYTES: usize = 10_000;

/// A dictionary with a shape has two, one with a structured type a few more; the header's parser takes time exponential in their depth.
const MAX_HEADER_BRACKETS: usize = 8;

/// Reads an array of float32, float64, int32, int64, int8, uint8 or bool, little-endian, in C or Fortran order. The result is row-major.
/// One of float16 becomes float32, in which every value is worth what it was.
///
/// # Errors
/// [`ErrorKind::Io`](crate::ErrorKind::Io) where the file cannot be read, [`ErrorKind::Format`](crate::ErrorKind::Format) where it is not
/// npy, or shorter or longer than its header says, [`ErrorKind::Shape`](crate::ErrorKind::Shape) where its elements are of another type.
pub fn read(path: &Path) -> Result<Tensor> {
    let bytes = fs::read(path).map_err(|error| Error::io(path, "read", error))?;
    parse(&bytes).map_err(|error| error.within(path.display()))
}

/// Writes `tensor`, row-major. An existing file is replaced in one step, so that neither a failure nor an interruption leaves half a file.
///
/// # Errors
/// [`ErrorKind::Io`](crate::ErrorKind::Io) names the path.
pub fn write(path: &Path, tensor: &Tensor) -> Result<()> {
    write_all(&[(path, tensor)])
}

/// As [`write()`], several arrays: no file is replaced before all of them are on the disk under other names, so that a full disk leaves nothing.
///
/// # Errors
/// [`ErrorKind::Io`](crate::ErrorKind::Io) names the path that failed.
pub fn write_all(files: &[(&Path, &Tensor)]) -> Result<()> {
    let failed = |path: &Path, error| Error::io(path, "write", error);
    // What is there and is no file (a pipe, a device) cannot be replaced and is written to directly, once all files are ready.
    let (direct, replaced): (Vec<_>, Vec<_>) = files.iter().partition(|(path, _)| fs::metadata(path).is_ok_and(|found| !found.is_file()));
    let mut ready = Vec::with_capacity(replaced.len());
    for (path, tensor) in replaced {
        let temporary = to_bytes(tensor).and_then(|bytes| Temporary::write(path, &bytes)).map_err(|error| failed(path, error))?;
        ready.push((path, temporary));
    }
    for (path, tensor) in direct {
        to_bytes(tensor).and_then(|bytes| fs::write(path, bytes)).map_err(|error| failed(path, error))?;
    }
    ready.into_iter().try_for_each(|(path, temporary)| temporary.publish().map_err(|error| failed(path, error)))
}

/// The array in an npy file. Allocates nothing that a size in the header claims before the file's length bears it out.
pub(crate) fn parse(bytes: &[u8]) -> Result<Tensor> {
    let (header, data) = header(bytes)?;
    let descr = header.type_descriptor.as_string().map(String::as_str).unwrap_or_default();
    let expected = "element type: expected float16, float32, float64, int32, int64, int8, uint8 or bool";
    if descr.starts_with('>') && !descr.ends_with('1') {
        return Err(Error::shape(format!("{expected}, little-endian, found big-endian {} (`{descr}`)", type_name(descr))));
    }
    match descr.trim_start_matches(['<', '>', '|', '=']) {
        "f2" => elements(&header, data, |bytes| f16::from_bits(u16::from_le_bytes(bytes)).to_f32()).map(Tensor::F32),
        "f4" => elements(&header, data, f32::from_le_bytes).map(Tensor::F32),
        "f8" => elements(&header, data, f64::from_le_bytes).map(Tensor::F64),
        "i4" => elements(&header, data, i32::from_le_bytes).map(Tensor::I32),
        "i8" => elements(&header, data, i64::from_le_bytes).map(Tensor::I64),
        "i1" => elements(&header, data, i8::from_le_bytes).map(Tensor::I8),
        "u1" => elements(&header, data, u8::from_le_bytes).map(Tensor::U8),
        "b1" => elements(&header, data, |[byte]| byte != 0).map(Tensor::Bool),
        "" => Err(Error::shape(format!("{expected}, found a structured type"))),
        _ => Err(Error::shape(format!("{expected}, found {} (`{descr}`)", type_name(descr)))),
    }
}

/// The header and the bytes after it. What could make the parser of the header allocate or recurse without bound is refused before.
fn header(bytes: &[u8]) -> Result<(Header, &[u8])> {
    if bytes.is_empty() {
        return Err(Error::format("expected an npy array, found an empty file"));
    }
    if bytes.starts_with(b"PK\x03\x04") {
        return Err(Error::format("expected an npy array, found a zip archive; an npz file has to be unpacked"));
    }
    if !bytes.starts_with(&MAGIC[..MAGIC.len().min(bytes.len())]) {
        return Err(Error::format("expected an npy array, which starts with \\x93NUMPY, found another kind of file"));
    }
    let truncated = || Error::format(format!("npy header: file ends after {} bytes", bytes.len()));
    let major = *bytes.get(MAGIC.len()).ok_or_else(truncated)?;
    let prefix_len = MAGIC.len() + if major == 1 { 4 } else { 6 };
    let prefix = bytes.get(..prefix_len).ok_or_else(truncated)?;
    let header_len = prefix[MAGIC.len() + 2..].iter().rev().fold(0, |len, &byte| len << 8 | usize::from(byte));
    if header_len > MAX_HEADER_BYTES {
        return Err(Error::format(format!("npy header: expected at most {MAX_HEADER_BYTES} bytes, found a length of {header_len}")));
    }
    let text = bytes.get(prefix_len..prefix_len + header_len).ok_or_else(truncated)?;
    if text.iter().filter(|byte| b"([{".contains(byte)).count() > MAX_HEADER_BRACKETS {
        return Err(Error::format(format!("npy header: expected at most {MAX_HEADER_BRACKETS} brackets, found more")));
    }
    let header = Header::from_reader(&mut &bytes[..prefix_len + header_len])
        .map_err(|error| Error::format(format!("npy header: {}", error::one_line(&error.to_string()))).with_source(error))?;
    Ok((header, &bytes[prefix_len + header_len..]))
}

/// The elements in the header's shape, made row-major.
fn elements<A: Clone, const BYTES: usize>(header: &Header, data: &[u8], element: fn([u8; BYTES]) -> A) -> Result<ArrayD<A>> {
    let shape = &header.shape;
    // in the widest type: an empty array of very many rows is read, and written, in every type or in none
    let widest = shape.iter().try_fold(size_of::<f64>(), |bytes, &axis| bytes.checked_mul(axis));
    let widest = widest.ok_or_else(|| Error::format(format!("npy header: shape {shape:?} is larger than any file")))?;
    let needed = widest / size_of::<f64>() * BYTES;
    if needed != data.len() {
        return Err(Error::format(format!("npy data: expected {needed} bytes for shape {shape:?}, found {}", data.len())));
    }
    let (chunks, _) = data.as_chunks::<BYTES>();
    let values = chunks.iter().map(|&chunk| element(chunk)).collect();
    let array = ArrayD::from_shape_vec(IxDyn(shape).set_f(header.layout.is_fortran()), values)
        .map_err(|error| Error::format(format!("npy header: shape {shape:?}: {error}")).with_source(error))?;
    Ok(if array.is_standard_layout() { array } else { array.as_standard_layout().into_owned() })
}

/// The name in `numpy` of a type that this crate does not read.
fn type_name(descr: &str) -> &str {
    match descr.trim_start_matches(['<', '>', '|', '=']) {
        "i2" => "int16",
        "i4" => "int32",
        "i8" => "int64",
        "u2" => "uint16",
        "u4" => "uint32",
        "u8" => "uint64",
        "f4" => "float32",
        "f8" => "float64",
        "c8" => "complex64",
        "c16" => "complex128",
        "O" => "Python objects",
        _ => "another type",
    }
}

/// The npy file that [`write()`] makes of `tensor`.
pub(crate) fn to_bytes(tensor: &Tensor) -> io::Result<Vec<u8>> {
    fn array<A: ndarray_npy::WritableElement + Clone>(array: &ArrayD<A>) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        array.as_standard_layout().write_npy(&mut bytes).map_err(io::Error::other)?;
        Ok(bytes)
    }
    match tensor {
        Tensor::F32(elements) => array(elements),
        Tensor::F64(elements) => array(elements),
        Tensor::I32(elements) => array(elements),
        Tensor::I64(elements) => array(elements),
        Tensor::I8(elements) => array(elements),
        Tensor::U8(elements) => array(elements),
        Tensor::Bool(elements) => array(elements),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use ndarray::{Array, arr0, array};
    use proptest::prelude::*;

    use super::*;
    use crate::ErrorKind;

    /// An npy file of version 1.0 with this dictionary and data.
    fn file(dictionary: &str, data: &[u8]) -> Vec<u8> {
        let text = format!("{dictionary}\n");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend(u16::try_from(text.len()).unwrap().to_le_bytes());
        bytes.extend(text.as_bytes());
        bytes.extend(data);
        bytes
    }

    fn with_shape(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        file(&format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}"), data)
    }

    fn fails(bytes: &[u8], kind: ErrorKind, text: &str) {
        let error = parse(bytes).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(text), "{error}");
    }

    #[test]
    fn an_empty_array_that_is_read_can_be_written() {
        for (shape, is_read) in [("(1152921504606846975, 0, )", true), ("(2305843009213693952, 0, )", false), ("(0, 9223372036854775807, )", true)] {
            for descr in ["<f2", "<f4", "<f8", "|u1"] {
                match parse(&with_shape(descr, shape, b"")) {
                    Ok(tensor) => assert!(is_read && parse(&to_bytes(&tensor).unwrap()).is_ok(), "{descr} {shape}"),
                    Err(error) => assert!(!is_read && error.to_string().contains("larger than any file"), "{descr} {shape}: {error}"),
                }
            }
        }
    }

    #[test]
    fn every_type_survives_a_round_trip() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.npy");
        let tensors: [Tensor; 9] = [
            array![[1.5f32, 7.0], [f32::INFINITY, -0.0]].into(),
            array![[1.5f64, -2.0]].into(),
            array![i32::MIN, 3].into(),
            array![i64::MAX, -3].into(),
            array![0u8, 255].into(),
            array![-128i8, 127].into(),
            array![true, false].into(),
            arr0(2.5f32).into(),
            Array::<f32, _>::zeros((3, 0, 2)).into(),
        ];
        for tensor in tensors {
            write(&path, &tensor).unwrap();
            assert_eq!(read(&path).unwrap(), tensor);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "a temporary file is left");
    }

    #[test]
    fn float16_becomes_float32() {
        let bits: Vec<u8> = [1.5_f32, -0.25, 65504.0].into_iter().flat_map(|value| f16::from_f32(value).to_le_bytes()).collect();
        assert_eq!(parse(&with_shape("<f2", "(3,)", &bits)).expect("an array"), array![1.5_f32, -0.25, 65504.0].into());
    }

    #[test]
    fn fortran_order_and_any_strides_become_row_major() {
        let bytes = file("{'descr': '<i4', 'fortran_order': True, 'shape': (2, 3), }", bytemuck::cast_slice(&[1i32, 4, 2, 5, 3, 6]));
        let Tensor::I32(array) = parse(&bytes).unwrap() else { panic!("not int32") };
        assert!(array.is_standard_layout());
        assert_eq!(array, array![[1, 2, 3], [4, 5, 6]].into_dyn());

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.npy");
        let transposed = Tensor::I32(array.reversed_axes());
        write(&path, &transposed).unwrap();
        assert_eq!(read(&path).unwrap(), transposed);
        assert!(fs::read(&path).unwrap().windows(5).any(|window| window == b"False"));
    }

    #[test]
    fn what_is_not_npy_is_said_so() {
        fails(b"", ErrorKind::Format, "empty file");
        fails(b"hello", ErrorKind::Format, "another kind of file");
        fails(b"PK\x03\x04npz", ErrorKind::Format, "npz");
        fails(b"\x93NUM", ErrorKind::Format, "ends after 4 bytes");
        fails(b"\x93NUMPY\x01\x00\x40", ErrorKind::Format, "ends after 9 bytes");
        fails(b"\x93NUMPY\x01\x00\x40\x00{'descr'", ErrorKind::Format, "ends after");
        fails(b"\x93NUMPY\x02\x00\xff\xff\xff\xff", ErrorKind::Format, "a length of 4294967295");
        fails(b"\x93NUMPY\x09\x00\x01\x00\x00\x00\n", ErrorKind::Format, "version");
        fails(&file("", b""), ErrorKind::Format, "npy header");
        fails(&file("[1, 2]", b""), ErrorKind::Format, "not a dict");
        fails(&file("{'descr': '<f4'}", b""), ErrorKind::Format, "missing key");
        fails(&file(&"(".repeat(9_000), b""), ErrorKind::Format, "brackets");
    }

    #[test]
    fn sizes_that_lie_are_refused_without_an_allocation() {
        fails(&with_shape("<f4", "(3,)", &[0; 8]), ErrorKind::Format, "expected 12 bytes for shape [3], found 8");
        fails(&with_shape("<f4", "(1,)", &[0; 5]), ErrorKind::Format, "expected 4 bytes for shape [1], found 5");
        fails(&with_shape("<f4", "()", &[]), ErrorKind::Format, "expected 4 bytes");
        fails(&with_shape("<f4", "(1000000000000,)", &[0; 4]), ErrorKind::Format, "expected 4000000000000 bytes");
        fails(&with_shape("<f4", "(4294967296, 4294967296)", &[]), ErrorKind::Format, "larger than any file");
        fails(&with_shape("<f4", "(0, 4611686018427387904, 16)", &[]), ErrorKind::Format, "shape");
        fails(&with_shape("<f4", "(99999999999999999999999,)", &[]), ErrorKind::Format, "shape");
        fails(&with_shape("<f4", "(-1,)", &[]), ErrorKind::Format, "shape");
    }

    #[test]
    fn other_types_are_named() {
        fails(&with_shape("<u2", "(1,)", &[0; 2]), ErrorKind::Shape, "found uint16");
        fails(&with_shape("<i2", "(1,)", &[0; 2]), ErrorKind::Shape, "found int16");
        fails(&with_shape(">f4", "(1,)", &[0; 4]), ErrorKind::Shape, "found big-endian float32 (`>f4`)");
        fails(&with_shape("|O", "(1,)", &[0; 4]), ErrorKind::Shape, "found Python objects");
        fails(&file("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", &[0; 4]), ErrorKind::Shape, "structured");
    }

    #[test]
    fn io_errors_name_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let tensor = Tensor::from(array![1.0f32]);
        for path in [folder.path().join("missing/x.npy"), folder.path().to_owned(), PathBuf::from("/")] {
            let error = write(&path, &tensor).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Io);
            assert!(error.to_string().starts_with(&path.display().to_string()), "{error}");
        }
        let error = read(&folder.path().join("none.npy")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.to_string().contains("none.npy: cannot read"), "{error}");
        fs::write(folder.path().join("bad.npy"), b"bad").unwrap();
        assert!(read(&folder.path().join("bad.npy")).unwrap_err().to_string().contains("bad.npy: expected an npy array"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "a temporary file is left");
    }

    #[test]
    fn of_several_files_all_are_written_or_none() {
        let folder = tempfile::tempdir().unwrap();
        let [first, second] = ["first.npy", "second.npy"].map(|name| folder.path().join(name));
        let (old, new) = (Tensor::from(array![1.0f32]), Tensor::from(array![2.0f32]));
        write_all(&[(&first, &old), (&second, &old)]).unwrap();
        for bad in [folder.path().join("missing/x.npy"), folder.path().to_owned()] {
            let error = write_all(&[(&first, &new), (&bad, &new), (&second, &new)]).unwrap_err();
            assert!(error.to_string().starts_with(&format!("{}: cannot write", bad.display())), "{error}");
            assert_eq!((read(&first).unwrap(), read(&second).unwrap()), (old.clone(), old.clone()));
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "a temporary file is left");
        }
        write_all(&[(&first, &new), (&second, &new)]).unwrap();
        assert_eq!((read(&first).unwrap(), read(&second).unwrap()), (new.clone(), new));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "a temporary file is left");
    }

    #[test]
    fn a_name_may_be_as_long_as_the_system_allows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(format!("{}.npy", "y".repeat(251)));
        let tensor = Tensor::from(array![1.0f32]);
        write(&path, &tensor).unwrap();
        assert_eq!(read(&path).unwrap(), tensor);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_stays_a_link_and_a_device_a_device() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("target.npy"), folder.path().join("link.npy"));
        let tensor = Tensor::from(array![1.0f32]);
        fs::write(&target, b"old").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        write(&link, &tensor).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(read(&target).unwrap(), tensor);
        write(Path::new("/dev/null"), &tensor).unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }

    proptest! {
        #[test]
        fn no_mutation_panics(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), cut in any::<prop::sample::Index>()) {
            let mut bytes = Vec::new();
            array![[1.0f32, 2.0], [3.0, 4.0]].write_npy(&mut bytes).unwrap();
            let whole = bytes.clone();
            for (place, value) in changes {
                let place = place.index(bytes.len());
                bytes[place] = value;
            }
            let _ = parse(&bytes);
            let _ = parse(&bytes[..cut.index(bytes.len())]);
            prop_assert!(parse(&whole[..cut.index(whole.len())]).is_err());
        }

        #[test]
        fn no_dictionary_panics(text in "[{}()\\[\\]'a-z0-9:,<>|.+eEj \\\\-]{0,60}", value in "[-()0-9jeE+.,xXbo'\\\\ ]{0,20}") {
            let _ = parse(&file(&text, &[0; 8]));
            let _ = parse(&file(&format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {value}}}"), &[0; 8]));
        }
    }
}
