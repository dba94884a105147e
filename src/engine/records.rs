//! What was measured on this machine, kept in files: one for every adapter, driver and version of this crate.
//!
//! A file that cannot be used is ignored with a note, and written anew by the next measurement. Files are replaced in one step; of two
//! processes that write at the same time, the last one wins.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;
use serde::{Deserialize, Serialize};

use crate::device::{DeviceInfo, GraphicsBackend};
use crate::engine::sides::SidesMeasurement;
use crate::engine::tune::Measurement;
use crate::formats::temporary::Temporary;
use crate::gpu::form::{Choice, ScheduleName};
use crate::network::Precision;

/// Hundreds of records; whatever is larger is not ours.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// Records of a file. The oldest go first.
const MAX_RECORDS: usize = 256;

/// Where records are if nobody says.
const FOLDER_VARIABLE: &str = "CELLGATE_CACHE";

/// What a file's records were measured with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    cellgate: String,
    adapter: String,
    pci_id: String,
    driver: String,
    backend: String,
}

/// What was measured.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Key {
    /// sizes and variant
    pub(super) lstm: String,
    pub(super) precision: Precision,
    pub(super) rows: usize,
    /// the only schedule that was considered
    pub(super) schedule: Option<ScheduleName>,
    /// whether shaders checked what they did
    pub(super) checked_shaders: bool,
    /// whether the device had no more than every WebGPU device
    #[serde(default)]
    pub(super) least_limits: bool,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) key: Key,
    /// year-month-day, in Greenwich
    pub(super) date: String,
    pub(super) choice: Choice,
    /// steps of the calls that were timed
    pub(super) seq_len: usize,
    pub(super) measured: Vec<Measurement>,
    /// whole calls on the GPU and on the CPU, where an engine held both
    #[serde(default)]
    pub(super) sides: Option<SidesMeasurement>,
}

/// What a file has.
#[derive(Serialize, Deserialize)]
pub(super) struct Document {
    pub(super) measured_with: Identity,
    pub(super) records: Vec<Record>,
}

/// The records of one adapter, as they were when they were read.
#[derive(Debug)]
pub(super) struct Records {
    path: PathBuf,
    identity: Identity,
    records: Vec<Record>,
}

impl Identity {
    pub(super) fn of(device: &DeviceInfo) -> Self {
        Self {
            cellgate: env!("CARGO_PKG_VERSION").to_owned(),
            adapter: device.name.clone(),
            pci_id: device.pci_id.clone(),
            driver: device.driver.clone(),
            backend: device.backend.map_or_else(String::new, |backend: GraphicsBackend| backend.to_string()),
        }
    }

    /// A name that says to people what the file is about, and to nobody else the same.
    fn file_name(&self) -> String {
        let Self { cellgate, adapter, pci_id, driver, backend } = self;
        let plain: String = adapter.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).take(40).collect();
        let words: Vec<&str> = plain.split('-').filter(|word| !word.is_empty()).collect();
        let all = [cellgate, adapter, pci_id, driver, backend].map(String::as_str).join("\0");
        format!("{}-{backend}-{:016x}.json", words.join("-"), fnv1a(all.as_bytes()))
    }
}

impl Records {
    /// The records of a device in `folder`, or where they are if nobody says; `None` where there is no such place. The note says what of them
    /// cannot be used.
    pub(super) fn open(folder: Option<&Path>, device: &DeviceInfo) -> (Option<Self>, Option<String>) {
        let folder = match folder.map_or_else(usual_folder, |folder| Ok(Some(folder.to_owned()))) {
            Ok(Some(folder)) => folder,
            Ok(None) => return (None, None),
            Err(why) => return (None, Some(format!("tuning records: neither read nor kept: {why}"))),
        };
        let identity = Identity::of(device);
        let path = folder.join(identity.file_name());
        let (records, note) = match read(&path, &identity) {
            Ok(records) => (records, None),
            Err(why) => (Vec::new(), Some(format!("tuning records {}: ignored: {why}", path.display()))),
        };
        (Some(Self { path, identity, records }), note)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn find(&self, key: &Key) -> Option<&Record> {
        self.records.iter().find(|record| record.key == *key)
    }

    /// Keeps `record` in the place of an earlier one, here and in the file, beside what others have written there meanwhile.
    pub(super) fn keep(&mut self, record: Record) -> Result<(), String> {
        if let Ok(records) = read(&self.path, &self.identity) {
            self.records = records;
        }
        self.records.retain(|known| known.key != record.key);
        self.records.push(record);
        let too_many = self.records.len().saturating_sub(MAX_RECORDS);
        self.records.drain(..too_many);
        let document = Document { measured_with: self.identity.clone(), records: self.records.clone() };
        let failed = |error: &dyn std::fmt::Display| format!("tuning records {}: not written: {error}", self.path.display());
        let bytes = serde_json::to_vec_pretty(&document).map_err(|error| failed(&error))?;
        let folder = self.path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder).map_err(|error| failed(&error))?;
        Temporary::write(&self.path, &bytes).and_then(Temporary::publish).map_err(|error| failed(&error))
    }
}

/// The records in a file that was written for `identity`; none where there is no file.
fn read(path: &Path, identity: &Identity) -> Result<Vec<Record>, String> {
    let cannot_read = |error: std::io::Error| format!("cannot read: {error}");
    match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(cannot_read(error)),
        // a pipe would wait for somebody to write
        Ok(found) if !found.is_file() => return Err("expected a file, found something else".to_owned()),
        Ok(_) => {}
    }
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)).map_err(cannot_read)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("expected at most {MAX_FILE_BYTES} bytes, found more"));
    }
    Document::parse(&bytes)?.of(identity)
}

impl Document {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        // the error may quote the file
        serde_json::from_slice(bytes).map_err(|error| format!("expected tuning records as JSON, found {:.200}", error.to_string()))
    }

    /// The records, which have to be those of `identity`.
    pub(super) fn of(self, identity: &Identity) -> Result<Vec<Record>, String> {
        if self.measured_with == *identity {
            return Ok(self.records);
        }
        let Identity { cellgate, adapter, driver, backend, .. } = self.measured_with;
        let found = format!("{adapter:.80} through {backend:.80}, {driver:.80}, {cellgate:.80}");
        Err(format!("expected records of this adapter, driver and version, found those of {found}"))
    }
}

fn usual_folder() -> Result<Option<PathBuf>, String> {
    match std::env::var_os(FOLDER_VARIABLE) {
        Some(folder) if folder.is_empty() => Ok(None),
        Some(folder) => Ok(Some(PathBuf::from(folder))),
        None => match etcetera::choose_base_strategy() {
            Ok(strategy) => Ok(Some(strategy.cache_dir().join("cellgate"))),
            Err(error) => Err(format!("the user has no cache directory: {error}")),
        },
    }
}

/// The hash of Fowler, Noll and Vo: the standard library's may differ from version to version.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{DeviceKind, Hardware};
    use crate::gpu::form::{ProductForm, RowForm, Schedule};

    fn device() -> DeviceInfo {
        DeviceInfo {
            name: "Radeon RX 6800 (RADV)".to_owned(),
            hardware: Hardware::Discrete,
            backend: Some(GraphicsBackend::Vulkan),
            driver: "radv Mesa 22".to_owned(),
            ..DeviceInfo::cpu(DeviceKind::Gpu)
        }
    }

    fn record(rows: usize, lanes: u32) -> Record {
        let form = ProductForm::Rows(RowForm { workgroup_size: 64, rows: 1, k_lanes: lanes, subgroups: false });
        let choice = Choice { schedule: Schedule::PerStep(form), input: form };
        let (precision, schedule) = (Precision::Int8, Some(ScheduleName::PerStep));
        let key = Key { lstm: "an LSTM".to_owned(), precision, rows, schedule, checked_shaders: true, least_limits: false };
        let measured = vec![Measurement { choice, seconds: 1.25e-3, n: 7 }];
        Record { key, date: "2026-02-28".to_owned(), choice, seq_len: 100, measured, sides: None }
    }

    fn open(folder: &Path) -> (Records, Option<String>) {
        let (records, note) = Records::open(Some(folder), &device());
        (records.expect("a folder was given"), note)
    }

    /// What is said of a file with this content, in which nothing may be found.
    fn refused(bytes: &[u8]) -> String {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut records, note) = open(folder.path());
        assert_eq!(note, None);
        fs::write(records.path(), bytes).expect("a file");
        let (again, note) = open(folder.path());
        assert!(again.records.is_empty());
        // the next measurement puts a good one in its place
        records.keep(record(1, 2)).expect("the folder is there");
        assert_eq!(open(folder.path()).0.find(&record(1, 2).key), Some(&record(1, 2)));
        note.expect("a note")
    }

    #[test]
    fn what_is_kept_is_found() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut records, note) = open(&folder.path().join("made/on demand"));
        assert_eq!(note, None);
        assert_eq!(records.find(&record(1, 2).key), None);
        let mut other = open(&folder.path().join("made/on demand")).0;
        records.keep(record(1, 2)).expect("the folder can be made");
        // somebody else's, between the two
        other.keep(record(2, 4)).expect("the folder is there");
        records.keep(record(1, 8)).expect("the folder is there");
        let again = open(&folder.path().join("made/on demand")).0;
        assert_eq!(again.find(&record(1, 0).key), Some(&record(1, 8)));
        assert_eq!(again.find(&record(2, 0).key), Some(&record(2, 4)));
        assert_eq!(again.records.len(), 2);
        assert_eq!(fs::read_dir(folder.path().join("made/on demand")).expect("a folder").count(), 1, "a temporary file is left");
        for unlike in [Key { checked_shaders: false, ..record(1, 0).key }, Key { least_limits: true, ..record(1, 0).key }] {
            assert_eq!(again.find(&unlike), None);
        }
    }

    /// Elsewhere a file that somebody has open cannot be replaced.
    #[cfg(unix)]
    #[test]
    fn who_opens_a_file_that_others_write_finds_records() {
        let folder = tempfile::tempdir().expect("a folder");
        open(folder.path()).0.keep(record(1, 1)).expect("the folder is there");
        let keep = &|rows: usize| (0..30).try_for_each(|lanes| open(folder.path()).0.keep(record(rows, lanes)));
        std::thread::scope(|scope| {
            let writers = [1, 2].map(|rows| scope.spawn(move || keep(rows)));
            while writers.iter().any(|writer| !writer.is_finished()) {
                let (records, note) = open(folder.path());
                assert!(note.is_none() && records.find(&record(1, 0).key).is_some(), "{note:?}");
            }
            assert!(writers.into_iter().all(|writer| writer.join().is_ok_and(|kept| kept.is_ok())));
        });
    }

    #[test]
    fn what_is_no_record_is_ignored_with_a_note() {
        for bytes in [&b""[..], b"{", b"[]", b"null", b"\xff\xfe", br#"{"measured_with": 3, "records": []}"#] {
            assert!(refused(bytes).contains("ignored: expected tuning records as JSON"), "{}", refused(bytes));
        }
        assert!(refused(&vec![b' '; 5 << 20]).contains("expected at most 4194304 bytes"));
        let folder = tempfile::tempdir().expect("a folder");
        let mut records = open(folder.path()).0;
        records.keep(record(1, 2)).expect("the folder is there");
        let whole = fs::read_to_string(records.path()).expect("a file");
        for len in [1, whole.len() / 2, whole.len() - 2] {
            assert!(refused(&whole.as_bytes()[..len]).contains("expected tuning records as JSON"));
        }
        let version = format!("\"{}\"", env!("CARGO_PKG_VERSION"));
        let note = refused(whole.replace(&version, "\"0.0.9\"").as_bytes());
        assert!(note.contains("expected records of this adapter, driver and version, found those of Radeon") && note.contains("0.0.9"), "{note}");
    }

    #[test]
    fn a_note_is_short_whatever_the_file_holds() {
        let long = "x".repeat(1 << 20);
        let identity = Identity { adapter: long.clone(), driver: long.clone(), ..Identity::of(&device()) };
        let document = Document { measured_with: identity, records: Vec::new() };
        let foreign = refused(&serde_json::to_vec(&document).expect("it is JSON"));
        assert!(foreign.contains("expected records of this adapter") && foreign.len() < 1000, "{} bytes", foreign.len());
        let typed = refused(format!(r#"{{"measured_with": "{long}", "records": []}}"#).as_bytes());
        assert!(typed.contains("expected tuning records as JSON") && typed.len() < 1000, "{} bytes", typed.len());
    }

    #[test]
    fn what_is_no_file_is_ignored_with_a_note() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut records, _) = open(folder.path());
        fs::create_dir(records.path()).expect("a folder");
        let (_, note) = open(folder.path());
        assert!(note.expect("a note").contains("expected a file, found something else"));
        let why = records.keep(record(1, 2)).expect_err("a folder is in the way");
        assert!(why.starts_with("tuning records ") && why.contains("not written"), "{why}");
        // what was measured holds all the same
        assert_eq!(records.find(&record(1, 0).key), Some(&record(1, 2)));
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1, "a temporary file is left");
        let file = folder.path().join("file");
        fs::write(&file, "").expect("a file");
        let (mut below, note) = open(&file.join("below"));
        assert!(note.expect("a note").contains("cannot read"));
        assert!(below.keep(record(1, 2)).expect_err("a file is in the way").contains("not written"));
    }

    #[test]
    fn the_oldest_records_go_first() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut records = open(folder.path()).0;
        let document = Document { measured_with: Identity::of(&device()), records: (0..MAX_RECORDS).map(|rows| record(rows, 1)).collect() };
        fs::write(records.path(), serde_json::to_vec(&document).expect("records are JSON")).expect("a file");
        records.keep(record(1000, 1)).expect("the folder is there");
        let again = open(folder.path()).0;
        assert_eq!((again.records.len(), again.find(&record(0, 1).key)), (MAX_RECORDS, None));
        assert!(again.find(&record(1000, 1).key).is_some() && again.find(&record(1, 1).key).is_some());
        assert!(fs::metadata(again.path()).expect("a file").len() * 10 < MAX_FILE_BYTES, "records of a dozen measurements would not fit");
    }

    #[test]
    fn adapters_have_files_of_their_own() {
        let name = |change: &dyn Fn(&mut DeviceInfo)| {
            let mut device = device();
            change(&mut device);
            Identity::of(&device).file_name()
        };
        let plain = name(&|_| {});
        assert!(plain.starts_with("radeon-rx-6800-radv-vulkan-") && plain.ends_with(".json"), "{plain}");
        assert_ne!(plain, name(&|device| device.driver.push('3')));
        assert_ne!(plain, name(&|device| device.backend = Some(GraphicsBackend::Gl)));
        assert_ne!(plain, name(&|device| device.pci_id = "1002:73bf".to_owned()));
        assert!(name(&|device| device.name = "../../\u{fc}ber/\0".repeat(50)).len() < 100);
        assert!(name(&|device| device.name = "../..\\etc/passwd".to_owned()).starts_with("etc-passwd-vulkan-"));
    }
}
