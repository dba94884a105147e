//! The kernels, as plain data: their parts, parameters, bindings and overrides. `tests/shader_contract` holds the shaders to it.

mod table;

use crate::gpu::form::{ProductForm, RowForm};
use crate::network::Precision;
use table::{ACTIVATIONS, STATE};

pub use crate::gpu::params::{
    EmbedParams, InputGatesParams, NormCellParams, NormGatesParams, ProjectParams, RelayoutParams, ResidentParams, RooflineParams, RowFunctionParams,
    StepParams,
};
pub use table::{CELLS, KERNELS, WEIGHTS};

/// A compute kernel: a shader file of `shaders/` and the shared parts that it is joined with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KernelId {
    /// `shaders/input_gates.wgsl` for many rows
    InputGates,
    /// `shaders/input_gates.wgsl` for few rows
    InputGatesRows,
    /// the same with sums by subgroups
    InputGatesSubgroups,
    /// `shaders/input_gates.wgsl` by cooperative matrices
    InputGatesMatrix,
    /// `shaders/norm_gates.wgsl`
    NormGates,
    /// `shaders/step.wgsl` for few rows
    Step,
    /// the same with sums by subgroups
    StepSubgroups,
    /// `shaders/step.wgsl` for many rows
    StepTile,
    /// `shaders/step.wgsl` by cooperative matrices
    StepMatrix,
    /// `shaders/resident.wgsl` with weights read in every step
    Resident,
    /// `shaders/resident.wgsl` with weights in registers
    ResidentHeld,
    /// `shaders/norm_cell.wgsl`
    NormCell,
    /// `shaders/project.wgsl` for few rows
    Project,
    /// the same with sums by subgroups
    ProjectSubgroups,
    /// `shaders/project.wgsl` for many rows
    ProjectTile,
    /// `shaders/project.wgsl` by cooperative matrices
    ProjectMatrix,
    /// `shaders/embed.wgsl`
    Embed,
    /// `shaders/row_activation.wgsl`
    RowActivation,
    /// `shaders/softmax.wgsl`
    Softmax,
    /// `shaders/relayout.wgsl`
    Relayout,
    /// `shaders/roofline.wgsl`
    Roofline,
}

/// A file of `shaders/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// its path below `shaders/`
    pub file: &'static str,
    /// its text
    pub text: &'static str,
}

/// A place in the list of a kernel's parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartSlot {
    /// always this file
    File(Part),
    /// the file of [`WEIGHTS`] that reads the weights' precision
    Weights,
    /// the files of [`CELLS`] for the activations
    Cell,
}

/// Which text computes a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CellText {
    /// sigmoid and tanh in their usual places
    Usual,
    /// any activations
    Any,
    /// any activations, in pairs of `f32`
    Pairs,
}

/// What a kernel does with a storage buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// `var<storage, read>`
    Read,
    /// `var<storage, read_write>`
    ReadWrite,
}

/// A storage buffer of a kernel.
#[derive(Clone, Copy, Debug)]
pub struct Binding {
    /// bind group: 0 belongs to the plan, 1 to the state that a call carries
    pub group: u32,
    /// number within the group; binding 0 of group 0 is always the uniform `params`
    pub binding: u32,
    /// its name in the shader
    pub name: &'static str,
    /// what the kernel does with it
    pub access: Access,
}

/// What a kernel needs of the adapter that not all of them have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extension {
    /// sums over subgroups
    Subgroups,
    /// cooperative matrices of f16 with sums in f32, f16 in buffers and workgroup memory, and subgroups
    Matrices,
}

impl Extension {
    /// What a text that uses it starts with.
    pub fn directives(self) -> &'static [&'static str] {
        match self {
            // naga has the builtins without the directive, and refuses the directive
            Self::Subgroups => &[],
            Self::Matrices => &["enable f16;", "enable wgpu_cooperative_matrix;"],
        }
    }
}

/// A row of the kernel table.
#[derive(Clone, Copy, Debug)]
pub struct Kernel {
    /// which kernel
    pub id: KernelId,
    /// its name in every message and in `explain`
    pub name: &'static str,
    /// name of the file and of the entry point
    pub entry: &'static str,
    /// in the order in which they are joined
    pub parts: &'static [PartSlot],
    /// constants that the host sets: sizes of what is kept in registers
    pub constants: &'static [&'static str],
    /// the name of its uniform struct
    pub params_name: &'static str,
    /// members of the uniform struct and their byte offsets
    pub params: &'static [(&'static str, usize)],
    /// bytes of the uniform struct
    pub params_size: usize,
    /// storage buffers
    pub bindings: &'static [Binding],
    /// overrides that the host sets, in groups
    pub overrides: &'static [&'static [&'static str]],
}

impl Kernel {
    /// Whether it has bind group 1, the state that a call carries.
    pub fn reads_state(&self) -> bool {
        self.bindings.iter().any(|binding| binding.group == STATE.group)
    }

    /// What it needs beside the least that WebGPU promises.
    pub fn extension(&self) -> Option<Extension> {
        let has = |file: &str| self.parts.iter().any(|slot| matches!(slot, PartSlot::File(part) if part.file == file));
        if has("shared/matrix_product.wgsl") {
            return Some(Extension::Matrices);
        }
        has("shared/subgroup_sums.wgsl").then_some(Extension::Subgroups)
    }

    /// Whether it reads packed weights.
    pub fn reads_weights(&self) -> bool {
        self.bindings.iter().any(|binding| binding.name == "weights")
    }

    /// Whether it computes cells.
    pub fn has_cells(&self) -> bool {
        self.parts.contains(&PartSlot::Cell)
    }

    /// Its parts where weights have this precision and cells this text, in the order in which they are joined.
    pub fn parts(&self, precision: Precision, cell: CellText) -> Vec<Part> {
        let mut parts = Vec::new();
        for slot in self.parts {
            match slot {
                PartSlot::File(part) => parts.push(*part),
                PartSlot::Weights => parts.extend(WEIGHTS.iter().filter(|(known, _)| *known == precision).map(|(_, part)| *part)),
                PartSlot::Cell => parts.extend(CELLS.iter().filter(|(known, _)| *known == cell).flat_map(|(_, parts)| *parts)),
            }
        }
        parts
    }

    /// The overrides that its text has where cells have this text.
    pub fn override_names(&self, cell: CellText) -> impl Iterator<Item = &'static str> {
        let activations = if self.has_cells() && cell != CellText::Usual { ACTIVATIONS } else { &[] };
        self.overrides.iter().copied().flatten().chain(activations).copied()
    }
}

impl KernelId {
    /// `input_gates.wgsl` with the product of this form.
    pub fn input_gates(form: ProductForm) -> Self {
        match form {
            ProductForm::Rows(RowForm { subgroups: false, .. }) => Self::InputGatesRows,
            ProductForm::Rows(_) => Self::InputGatesSubgroups,
            ProductForm::Tile(_) => Self::InputGates,
            ProductForm::Matrix(_) => Self::InputGatesMatrix,
        }
    }

    /// `step.wgsl` with the product of this form.
    pub fn step(form: ProductForm) -> Self {
        match form {
            ProductForm::Rows(RowForm { subgroups: false, .. }) => Self::Step,
            ProductForm::Rows(_) => Self::StepSubgroups,
            ProductForm::Tile(_) => Self::StepTile,
            ProductForm::Matrix(_) => Self::StepMatrix,
        }
    }

    /// `project.wgsl` with the product of this form.
    pub fn project(form: ProductForm) -> Self {
        match form {
            ProductForm::Rows(RowForm { subgroups: false, .. }) => Self::Project,
            ProductForm::Rows(_) => Self::ProjectSubgroups,
            ProductForm::Tile(_) => Self::ProjectTile,
            ProductForm::Matrix(_) => Self::ProjectMatrix,
        }
    }

    /// The kernel's row in the table.
    pub fn kernel(self) -> &'static Kernel {
        KERNELS.iter().find(|kernel| kernel.id == self).expect("every kernel has a row in the table")
    }
}
