//! Elements of tensors that are in files beside the model's.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use super::proto::{AttributeProto, GraphProto, TensorProto};
use super::tensor::EXTERNAL;
use crate::error::{Error, Result};

/// Opens files in the folder of a model; nothing outside of it.
pub(super) struct ExternalData<'a> {
    folder: &'a Path,
    /// the folder itself, past all links
    root: Option<PathBuf>,
    /// the files of locations: one may be spelled in many ways
    paths: BTreeMap<String, PathBuf>,
    /// open files and their lengths
    files: BTreeMap<PathBuf, (File, u64)>,
    /// bytes that may still be read
    room: u64,
}

/// How often the bytes of the files may be read, on the average: tensors may share some, but not without end.
const READS_PER_BYTE: u64 = 4;

impl<'a> ExternalData<'a> {
    pub(super) fn new(folder: &'a Path) -> Self {
        Self { folder, root: None, paths: BTreeMap::new(), files: BTreeMap::new(), room: 0 }
    }

    /// Puts the elements of every tensor of `graph` into it.
    pub(super) fn load(&mut self, graph: &mut GraphProto) -> Result<()> {
        for tensor in &mut graph.initializer {
            self.tensor(tensor)?;
        }
        for attribute in graph.node.iter_mut().flat_map(|node| &mut node.attribute) {
            attribute.t.iter_mut().chain(&mut attribute.tensors).try_for_each(|tensor| self.tensor(tensor))?;
            AttributeProto::graphs_mut(attribute).try_for_each(|graph| self.load(graph))?;
        }
        Ok(())
    }

    fn tensor(&mut self, tensor: &mut TensorProto) -> Result<()> {
        if tensor.data_location == EXTERNAL || !tensor.external_data.is_empty() {
            let read = self.read(tensor).map_err(|error| error.within(format!("tensor `{}`", tensor.name)))?;
            tensor.raw_data = read;
            tensor.external_data.clear();
            tensor.data_location = 0;
        }
        Ok(())
    }

    /// The bytes of a tensor. No more are taken than the file has, and than the axes ask for.
    fn read(&mut self, tensor: &TensorProto) -> Result<Vec<u8>> {
        let entry = |key: &str| tensor.external_data.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str());
        let location = entry("location").ok_or_else(|| Error::format("expected the location of its data, found none"))?;
        let number = |key: &str| {
            let value =
                entry(key).map(|text| text.trim().parse::<u64>().map_err(|_| Error::format(format!("{key}: expected bytes, found `{text}`"))));
            value.transpose()
        };
        let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?);
        if !self.paths.contains_key(location) {
            let path = self.open(location)?;
            self.paths.insert(location.to_owned(), path);
        }
        let Some((file, size)) = self.paths.get(location).and_then(|path| self.files.get_mut(path)) else { unreachable!("it was put there") };
        let length = match length {
            Some(length) => length,
            None => size.saturating_sub(offset),
        };
        if offset.checked_add(length).is_none_or(|end| end > *size) {
            return Err(Error::format(format!("expected bytes {offset} to {offset} + {length} of `{location}`, found {size} bytes in it")));
        }
        // a tensor that claims less than its data is refused before the data is read
        let needed = super::tensor::needed_bytes(tensor);
        if needed.is_some_and(|needed| needed as u64 != length) {
            let needed = needed.unwrap_or(0);
            return Err(Error::format(format!("expected {needed} bytes for axes {:?}, found {length} in `{location}`", tensor.dims)));
        }
        let shared = || Error::limit(format!("expected tensors that share data {READS_PER_BYTE} times at most, found more"));
        self.room = self.room.checked_sub(length).ok_or_else(shared)?;
        let failed = |error: std::io::Error| Error::io(&self.folder.join(location), "read", error);
        file.seek(SeekFrom::Start(offset)).map_err(failed)?;
        let mut bytes = Vec::new();
        file.take(length).read_to_end(&mut bytes).map_err(failed)?;
        Ok(bytes)
    }

    /// The path of `location`, which must lie in the model's folder or below, links included. Its file is opened if it is not yet.
    fn open(&mut self, location: &str) -> Result<PathBuf> {
        let path = Path::new(location);
        let plain = path.components().all(|component| matches!(component, Component::Normal(_) | Component::CurDir));
        let outside = || Error::config(format!("expected data in the model's folder or below, found `{location}`"));
        if location.is_empty() || !plain || location.contains('\0') || (cfg!(windows) && location.contains(':')) {
            return Err(outside());
        }
        if self.root.is_none() {
            self.root = Some(self.folder.canonicalize().map_err(|error| Error::io(self.folder, "open", error))?);
        }
        let path = self.folder.join(path);
        let real = path.canonicalize().map_err(|error| Error::io(&path, "open", error))?;
        if !self.root.as_ref().is_some_and(|root| real.starts_with(root)) {
            return Err(outside());
        }
        let failed = |error| Error::io(&path, "open", error);
        let metadata = real.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(Error::config(format!("expected a file, found `{location}`, which is none")));
        }
        if !self.files.contains_key(&real) {
            let file = File::open(&real).map_err(failed)?;
            self.files.insert(real.clone(), (file, metadata.len()));
            self.room = self.room.saturating_add(metadata.len().saturating_mul(READS_PER_BYTE));
        }
        Ok(real)
    }
}
