//! The sizes of a stage, without its weights, and what a device can do about them.

use crate::error::{Error, Result};
use crate::gpu::form::{ProductForm, SoftmaxForm};
use crate::gpu::pack::linear_region;
use crate::gpu::plan::DeviceProfile;
use crate::gpu::plan::candidates::product_forms;
use crate::gpu::plan::cost::input_seconds;
use crate::gpu::plan::dense::F32;
use crate::gpu::region::{Region, beyond_a_binding, panel_outputs};
use crate::gpu::specialise::WORKGROUP_SIZE;
use crate::network::{DenseStage, LstmConfig, Precision, RowFunction};

/// Features that a thread of `softmax.wgsl` has of a row, where enough threads may share it.
const OWN_FEATURES: usize = 4;

/// The sizes of a stage, without its weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DenseSpec {
    /// which kind of stage
    pub kind: DenseKind,
    /// what is applied to the rows of the result
    pub function: RowFunction,
    /// how weights of a product are stored
    pub precision: Precision,
}

/// Kinds of stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DenseKind {
    /// a table `[V, E]`
    Embedding {
        /// V
        num_embeddings: usize,
        /// E
        embedding_dim: usize,
    },
    /// a weight `[F, I]`
    Linear {
        /// I
        in_features: usize,
        /// F
        out_features: usize,
        /// whether there is one
        bias: bool,
    },
    /// a function alone
    Function,
}

impl DenseSpec {
    /// The sizes of `stage`, its weights stored in `precision`.
    pub fn new(stage: &DenseStage, precision: Precision) -> Self {
        match stage {
            DenseStage::Embedding(embedding) => {
                let kind = DenseKind::Embedding { num_embeddings: embedding.num_embeddings(), embedding_dim: embedding.embedding_dim() };
                Self { kind, function: RowFunction::None, precision }
            }
            DenseStage::Linear(linear, function) => {
                let (in_features, out_features) = (linear.in_features(), linear.out_features());
                let kind = DenseKind::Linear { in_features, out_features, bias: linear.bias().is_some() };
                Self { kind, function: *function, precision }
            }
            DenseStage::Function(function) => Self { kind: DenseKind::Function, function: *function, precision },
        }
    }

    /// Features of a row of `x`, where a row of the result has `features`; an id is one.
    pub fn in_features(&self, features: usize) -> usize {
        match self.kind {
            DenseKind::Embedding { .. } => 1,
            DenseKind::Linear { in_features, .. } => in_features,
            DenseKind::Function => features,
        }
    }

    /// Floats from row to row of the result.
    pub(super) fn row_stride(&self, features: usize) -> usize {
        // quads are left where they are made if nothing is to be done to them
        if self.leaves_quads() { features.next_multiple_of(4) } else { features }
    }

    pub(super) fn leaves_quads(&self) -> bool {
        matches!(self.kind, DenseKind::Linear { .. }) && self.function == RowFunction::None
    }

    /// The stack whose input product is that of this layer: a unit's gates stand for four outputs.
    pub(super) fn as_stack(&self) -> Option<LstmConfig> {
        let DenseKind::Linear { in_features, out_features, bias } = self.kind else { return None };
        Some(LstmConfig { bias, ..LstmConfig::new(in_features, out_features.div_ceil(4)) })
    }

    /// Where the weights are: quads of outputs of a product, or vectors of a table.
    pub(crate) fn weights(&self, profile: &DeviceProfile) -> Region {
        let allowed = profile.max_binding_bytes;
        match self.kind {
            DenseKind::Embedding { num_embeddings, embedding_dim } => {
                Region { panel: panel_outputs(num_embeddings, embedding_dim as u64 * F32, allowed).unwrap_or(0), ..Region::default() }
            }
            DenseKind::Linear { in_features, out_features, .. } => linear_region(in_features, out_features.div_ceil(4), self.precision, allowed),
            DenseKind::Function => Region::default(),
        }
    }

    /// The forms that a product may have in calls of `rows` rows, cheapest by the cost model first; none where there is no product. Numbers of rows up
    /// to the next power of two share them, so that a result does not change with every one of them.
    ///
    /// # Errors
    /// [`ErrorKind::Limit`](crate::ErrorKind::Limit) where the input is so wide that the driver would end a kernel's loops early.
    pub fn products(&self, rows: usize, profile: &DeviceProfile) -> Result<Vec<ProductForm>> {
        let Some(stack) = self.as_stack() else { return Ok(Vec::new()) };
        let rows = rows.next_power_of_two();
        let seconds = |form: &ProductForm| input_seconds(&stack, self.precision, rows, *form, &profile.model);
        let mut forms = product_forms(&stack, self.precision, rows, stack.input_size, profile);
        forms.sort_by(|a, b| seconds(a).total_cmp(&seconds(b)));
        if forms.is_empty() { Err(loops_limit("in_features", stack.input_size, profile)) } else { Ok(forms) }
    }

    /// How many rows a call of `rows` may have at once, for results of `features` features.
    ///
    /// # Errors
    /// [`ErrorKind::Limit`](crate::ErrorKind::Limit) where one row is too large, or a kernel's loops would be.
    pub fn split(&self, rows: usize, features: usize, profile: &DeviceProfile) -> Result<usize> {
        if matches!(self.function, RowFunction::Softmax | RowFunction::LogSoftmax) {
            let form = softmax_form(features, profile);
            if 3 * (features / form.lanes as usize + 2) as u64 + 40 > profile.max_loop_iterations {
                return Err(loops_limit("features", features, profile));
            }
        }
        let row = [self.in_features(features), self.row_stride(features), features.next_multiple_of(4)].into_iter().max().unwrap_or(1);
        let row_bytes = row as u64 * F32;
        let fit = usize::try_from(profile.max_binding_bytes / row_bytes).unwrap_or(usize::MAX);
        if fit == 0 {
            return Err(beyond_a_binding("one row of x or y", row_bytes, profile.max_binding_bytes));
        }
        Ok(fit.min(rows).max(1))
    }

    /// Whether the result of a call can stay on the device.
    pub fn fits_on_device(&self, rows: usize, features: usize, profile: &DeviceProfile) -> bool {
        self.split(rows, features, profile).is_ok_and(|fit| fit >= rows)
    }
}

fn loops_limit(name: &str, found: usize, profile: &DeviceProfile) -> Error {
    let allowed = profile.max_loop_iterations;
    Error::limit(format!("limit loop iterations of a thread: needs more for {name} = {found} than the {allowed} that the driver allows"))
}

/// Threads that share a row: as many as have a few features each, as far as a workgroup goes. Small rows share a workgroup.
pub(super) fn softmax_form(features: usize, profile: &DeviceProfile) -> SoftmaxForm {
    let most = profile.max_workgroup_threads.min(256);
    let lanes = u32::try_from(features.div_ceil(OWN_FEATURES).next_power_of_two()).unwrap_or(most).min(most);
    SoftmaxForm { workgroup_size: lanes.max(WORKGROUP_SIZE), lanes }
}
