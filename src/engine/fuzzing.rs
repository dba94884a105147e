//! What the fuzz targets reach of the tuner's records.

use crate::device::{DeviceInfo, DeviceKind};
use crate::engine::records::{Document, Identity, Key, Record};
use crate::engine::{Measurement, SidesMeasurement};
use crate::gpu::form::{Choice, ScheduleName};
use crate::gpu::pack::PackedLayout;
use crate::gpu::plan::{self, DeviceProfile};
use crate::network::{LstmConfig, Precision};

/// As much of a record as a session goes by.
pub struct Recorded {
    /// of the key
    pub rows: usize,
    /// of the key
    pub schedule: Option<ScheduleName>,
    /// as in the record
    pub choice: Choice,
    /// as in the record
    pub seq_len: usize,
    /// as in the record
    pub measured: Vec<Measurement>,
    /// as in the record
    pub sides: Option<SidesMeasurement>,
}

/// What a session believes of a file of records, each as if it were about this stack and a block of as many rows as it says.
pub fn believed(bytes: &[u8], config: &LstmConfig, layout: &PackedLayout, profile: &DeviceProfile) -> Vec<Recorded> {
    let Ok(document) = Document::parse(bytes) else { return Vec::new() };
    let identity = document.measured_with.clone();
    let is_believed = |record: &Record| {
        let Key { rows, schedule, .. } = record.key;
        plan::is_one_segment(config, rows, 1, profile) && {
            let candidates = plan::candidates(config, layout, rows, schedule, profile);
            record.fault(&candidates, |seq_len| plan::is_one_segment(config, rows, seq_len, profile)).is_none()
        }
    };
    let recorded = |record| {
        let Record { key: Key { rows, schedule, .. }, choice, seq_len, measured, sides, .. } = record;
        Recorded { rows, schedule, choice, seq_len, measured, sides }
    };
    document.of(&identity).unwrap_or_default().into_iter().filter(is_believed).map(recorded).collect()
}

/// A file of these records.
pub fn written(records: Vec<Recorded>) -> Vec<u8> {
    let record = |Recorded { rows, schedule, choice, seq_len, measured, sides }| {
        let key = Key { lstm: "an LSTM".to_owned(), precision: Precision::default(), rows, schedule, checked_shaders: false, least_limits: false };
        Record { key, date: "2026-02-28".to_owned(), choice, seq_len, measured, sides }
    };
    let measured_with = Identity::of(&DeviceInfo::cpu(DeviceKind::Gpu));
    serde_json::to_vec(&Document { measured_with, records: records.into_iter().map(record).collect() }).unwrap_or_default()
}
