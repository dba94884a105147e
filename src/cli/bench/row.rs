//! A row of a record: a device, a shape, and what calls of it took. The names are those of the JSON lines and of the CSV columns.

use cellgate::{DeviceKind, GraphicsBackend, Precision};
use serde::{Deserialize, Serialize};

/// What became of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Outcome {
    /// right, and timed
    Verified,
    /// not what the reference says, and not timed
    Wrong,
    /// not run to its end
    Failed,
}

/// One line of a record. What was not measured is `null`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Row {
    /// year-month-day, in Greenwich
    pub(super) date: String,
    /// version of cellgate; one that ends in `+debug` was not built for speed
    pub(super) cellgate: String,
    /// of several records, which one it is in: that of one machine, mostly
    #[serde(skip)]
    pub(super) record: Option<String>,
    pub(super) device: DeviceKind,
    /// the device's name
    pub(super) adapter: String,
    pub(super) driver: String,
    pub(super) backend: Option<GraphicsBackend>,
    /// of all LSTMs, each once
    pub(super) schedule: String,
    /// why that one
    pub(super) why: String,
    /// file of the model; `null`: random weights
    pub(super) model: Option<String>,
    pub(super) precision: Precision,
    /// sizes of the stack; of a model with several, those of the first
    pub(super) layers: usize,
    pub(super) directions: usize,
    pub(super) input_size: usize,
    pub(super) hidden_size: usize,
    /// rows and steps of the call; of a model, those of its first stack
    pub(super) batch: usize,
    pub(super) seq_len: usize,
    /// calls that were timed
    pub(super) n: usize,
    pub(super) median_ms: Option<f64>,
    /// median distance from the median
    pub(super) mad_ms: Option<f64>,
    pub(super) min_ms: Option<f64>,
    pub(super) p95_ms: Option<f64>,
    /// medians of the phases of a GPU's call of LSTMs alone, in calls of their own: inputs written where the device fetches them,
    pub(super) upload_ms: Option<f64>,
    /// the device at work, by its own clock where `device_clock`, else from submit to done; on the CPU the whole call,
    pub(super) compute_ms: Option<f64>,
    /// results stored in the caller's arrays
    pub(super) readback_ms: Option<f64>,
    pub(super) device_clock: bool,
    /// the median by the number of steps
    pub(super) us_per_step: Option<f64>,
    /// additions and multiplications of the LSTMs' matrix products in one call
    pub(super) flops: u64,
    /// bytes of the LSTMs of one call if every step reads its recurrent weights and everything else moves once
    pub(super) bytes: u64,
    /// by the median
    pub(super) gflops: Option<f64>,
    /// what the device does at most, as measured before
    pub(super) peak_gflops: Option<f64>,
    pub(super) peak_gb_per_s: Option<f64>,
    /// of the peak's float32 arithmetic and of its bandwidth, 1 is all of it; weights that a cache gives may exceed the latter. Of LSTMs alone
    pub(super) peak_share: Option<f64>,
    pub(super) bandwidth_share: Option<f64>,
    /// the CPU backend's median by this one: above 1 this is the faster
    pub(super) ratio_to_cpu: Option<f64>,
    /// against the float64 reference
    pub(super) max_abs_err: Option<f64>,
    pub(super) verified: bool,
    pub(super) outcome: Outcome,
    /// why there are no times
    pub(super) failure: Option<String>,
}

impl Row {
    /// Features of the input, where they are not as many as units; else 0.
    pub(super) fn own_input(&self) -> usize {
        if self.input_size == self.hidden_size { 0 } else { self.input_size }
    }

    /// Operations for each byte.
    #[expect(clippy::cast_precision_loss, reason = "a ratio")]
    pub(super) fn intensity(&self) -> f64 {
        self.flops as f64 / self.bytes.max(1) as f64
    }

    /// Steps of sequences per second, over all rows of the batch.
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    pub(super) fn steps_per_second(&self) -> Option<f64> {
        self.median_ms.map(|ms| (self.batch * self.seq_len) as f64 / ms * 1e3)
    }

    /// The device in a few words, without what its driver adds.
    pub(super) fn device_name(&self) -> String {
        let name = self.adapter.split(" (").next().unwrap_or(&self.adapter);
        let backend = self.backend.map_or_else(String::new, |backend| format!(", {backend}"));
        let record = self.record.as_ref().map_or_else(String::new, |record| format!(", {record}"));
        format!("{name}{backend}{record}")
    }
}
