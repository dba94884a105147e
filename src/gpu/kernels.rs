//! The kernels, as plain data: their parts, parameters, bindings and overrides. `tests/shader_contract` holds the shaders to it.

use crate::gpu::form::{ProductForm, RowForm};
use crate::network::Precision;

pub use crate::gpu::params::{InputGatesParams, NormCellParams, NormGatesParams, ProjectParams, ResidentParams, StepParams};

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

macro_rules! part {
    ($file:literal) => {
        Part { file: $file, text: include_str!(concat!("../../shaders/", $file)) }
    };
}

macro_rules! file {
    ($file:literal) => {
        PartSlot::File(part!($file))
    };
}

/// The parts that read packed weights, by precision.
pub const WEIGHTS: &[(Precision, Part)] = &[
    (Precision::F32, part!("shared/weights_f32.wgsl")),
    (Precision::F16, part!("shared/weights_f16.wgsl")),
    (Precision::Int8, part!("shared/weights_int8.wgsl")),
];

/// The part that reads f16 weights as cooperative matrices do.
const MATRIX_WEIGHTS: PartSlot = file!("shared/weights_matrix.wgsl");
/// The parts that compute a cell.
pub const CELLS: &[(CellText, &[Part])] = &[
    (
        CellText::Usual,
        &[part!("shared/sigmoid_tanh.wgsl"), part!("shared/usual_activations.wgsl"), part!("shared/cell.wgsl"), part!("shared/plain_cell.wgsl")],
    ),
    (
        CellText::Any,
        &[
            part!("shared/sigmoid_tanh.wgsl"),
            part!("shared/activations.wgsl"),
            part!("shared/any_activations.wgsl"),
            part!("shared/cell.wgsl"),
            part!("shared/plain_cell.wgsl"),
        ],
    ),
    (
        CellText::Pairs,
        &[
            part!("shared/sigmoid_tanh.wgsl"),
            part!("shared/activations.wgsl"),
            part!("shared/any_activations.wgsl"),
            part!("shared/cell.wgsl"),
            part!("shared/pair_cell.wgsl"),
        ],
    ),
];

const fn read(binding: u32, name: &'static str) -> Binding {
    Binding { group: 0, binding, name, access: Access::Read }
}

const fn write(binding: u32, name: &'static str) -> Binding {
    Binding { group: 0, binding, name, access: Access::ReadWrite }
}

/// The states that a call carries: one buffer, in a group of its own, so that a plan does not depend on whose state it runs.
const STATE: Binding = Binding { group: 1, binding: 0, name: "state", access: Access::ReadWrite };

/// Overrides of `shared/cell.wgsl`.
const CELL: &[&str] = &["COUPLED", "PEEPHOLES", "CLIP", "CELL_CLIP"];

/// Overrides of `shared/any_activations.wgsl`.
#[rustfmt::skip]
const ACTIVATIONS: &[&str] = &[
    "PER_DIRECTION",
    "GATE_0", "GATE_ALPHA_0", "GATE_BETA_0", "CANDIDATE_0", "CANDIDATE_ALPHA_0", "CANDIDATE_BETA_0", "OUTPUT_0", "OUTPUT_ALPHA_0", "OUTPUT_BETA_0",
    "GATE_1", "GATE_ALPHA_1", "GATE_BETA_1", "CANDIDATE_1", "CANDIDATE_ALPHA_1", "CANDIDATE_BETA_1", "OUTPUT_1", "OUTPUT_ALPHA_1", "OUTPUT_BETA_1",
];

/// Constants of `shared/matrix_product.wgsl`, `shared/row_product.wgsl` and `shared/tile_product.wgsl`.
const MATRIX_PRODUCT: &[&str] = &["WORKGROUP_SIZE", "SIZE", "K_STEPS", "ROW_TILES", "COLUMN_TILES", "ROW_CHUNKS", "COLUMN_CHUNKS"];
const ROW_PRODUCT: &[&str] = &["WORKGROUP_SIZE", "K_LANES", "ROWS", "LOW_LEN"];
const TILE_PRODUCT: &[&str] = &["WORKGROUP_SIZE", "ROW_THREADS", "UNIT_THREADS", "ROW_QUADS", "UNITS", "LOW_LEN"];

const RESIDENT_CONSTANTS: &[&str] = &["WORKGROUP_SIZE", "K_LANES", "ROWS", "UNITS", "OWN_ROWS", "INPUTS", "HELD_K"];

const INPUT_BINDINGS: &[Binding] = &[read(1, "weights"), read(2, "vectors"), read(3, "x"), read(4, "lens"), write(5, "gates_x")];
const STEP_BINDINGS: &[Binding] = &[read(1, "weights"), read(2, "vectors"), read(3, "gates_x"), read(4, "lens"), write(5, "out"), STATE];
const STEP_OVERRIDES: &[&[&str]] = &[&["PAIRS", "RAGGED", "WAVEFRONT", "RAW_ONLY", "PROJECTED"], CELL];
const RESIDENT_BINDINGS: &[Binding] = &[read(1, "weights"), read(2, "vectors"), read(3, "gates_x"), read(4, "lens"), write(5, "y"), STATE];
const PROJECT_BINDINGS: &[Binding] = &[read(1, "weights"), read(2, "vectors"), read(3, "scratch"), read(4, "lens"), write(5, "y"), STATE];

macro_rules! input_parts {
    ($weights:expr, $($product:literal),+) => {
        &[
            file!("shared/two_float.wgsl"),
            $weights,
            file!("shared/vectors.wgsl"),
            file!("shared/product.wgsl"),
            $(file!($product),)+
            file!("input_gates.wgsl"),
        ]
    };
}

macro_rules! step_parts {
    ($weights:expr, $($product:literal),+) => {
        &[
            file!("shared/two_float.wgsl"),
            $weights,
            file!("shared/vectors.wgsl"),
            file!("shared/product.wgsl"),
            $(file!($product),)+
            file!("shared/live_rows.wgsl"),
            PartSlot::Cell,
            file!("step.wgsl"),
        ]
    };
}

macro_rules! project_parts {
    ($weights:expr, $($product:literal),+) => {
        &[
            file!("shared/two_float.wgsl"),
            $weights,
            file!("shared/product.wgsl"),
            $(file!($product),)+
            file!("shared/live_rows.wgsl"),
            file!("project.wgsl"),
        ]
    };
}

macro_rules! resident_parts {
    ($weights:literal) => {
        &[file!("shared/two_float.wgsl"), PartSlot::Weights, file!("shared/vectors.wgsl"), PartSlot::Cell, file!($weights), file!("resident.wgsl")]
    };
}

/// `input_gates.wgsl` with one of the products.
const fn input_gates(id: KernelId, name: &'static str, parts: &'static [PartSlot], constants: &'static [&'static str]) -> Kernel {
    Kernel {
        id,
        name,
        entry: "input_gates",
        parts,
        constants,
        params_name: "InputGatesParams",
        params: InputGatesParams::FIELDS,
        params_size: size_of::<InputGatesParams>(),
        bindings: INPUT_BINDINGS,
        overrides: &[&["PAIRS", "RAGGED", "HAS_BIAS"]],
    }
}

/// `step.wgsl` with one of the products.
const fn step(id: KernelId, name: &'static str, parts: &'static [PartSlot], constants: &'static [&'static str]) -> Kernel {
    Kernel {
        id,
        name,
        entry: "step",
        parts,
        constants,
        params_name: "StepParams",
        params: StepParams::FIELDS,
        params_size: size_of::<StepParams>(),
        bindings: STEP_BINDINGS,
        overrides: STEP_OVERRIDES,
    }
}

/// `resident.wgsl` with weights read in one of the two ways.
const fn resident(id: KernelId, name: &'static str, parts: &'static [PartSlot]) -> Kernel {
    Kernel {
        id,
        name,
        entry: "resident",
        parts,
        constants: RESIDENT_CONSTANTS,
        params_name: "ResidentParams",
        params: ResidentParams::FIELDS,
        params_size: size_of::<ResidentParams>(),
        bindings: RESIDENT_BINDINGS,
        overrides: &[&["RAGGED"], CELL],
    }
}

/// `project.wgsl` with one of the products.
const fn project(id: KernelId, name: &'static str, parts: &'static [PartSlot], constants: &'static [&'static str]) -> Kernel {
    Kernel {
        id,
        name,
        entry: "project",
        parts,
        constants,
        params_name: "ProjectParams",
        params: ProjectParams::FIELDS,
        params_size: size_of::<ProjectParams>(),
        bindings: PROJECT_BINDINGS,
        overrides: &[&["PAIRS", "RAGGED", "PROJ_CLIP"]],
    }
}

/// Every kernel there is.
pub const KERNELS: &[Kernel] = &[
    input_gates(KernelId::InputGates, "input_gates", input_parts!(PartSlot::Weights, "shared/tile_product.wgsl"), TILE_PRODUCT),
    input_gates(
        KernelId::InputGatesRows,
        "input_gates_rows",
        input_parts!(PartSlot::Weights, "shared/row_product.wgsl", "shared/lane_sums.wgsl"),
        ROW_PRODUCT,
    ),
    input_gates(
        KernelId::InputGatesSubgroups,
        "input_gates_subgroups",
        input_parts!(PartSlot::Weights, "shared/row_product.wgsl", "shared/subgroup_sums.wgsl"),
        ROW_PRODUCT,
    ),
    input_gates(KernelId::InputGatesMatrix, "input_gates_matrix", input_parts!(MATRIX_WEIGHTS, "shared/matrix_product.wgsl"), MATRIX_PRODUCT),
    Kernel {
        id: KernelId::NormGates,
        name: "norm_gates",
        entry: "norm_gates",
        parts: &[file!("shared/vectors.wgsl"), file!("shared/row_mean.wgsl"), file!("norm_gates.wgsl")],
        constants: &["WORKGROUP_SIZE"],
        params_name: "NormGatesParams",
        params: NormGatesParams::FIELDS,
        params_size: size_of::<NormGatesParams>(),
        bindings: &[read(2, "vectors"), write(3, "gates_x")],
        overrides: &[&["EPSILON"]],
    },
    step(KernelId::Step, "step", step_parts!(PartSlot::Weights, "shared/row_product.wgsl", "shared/lane_sums.wgsl"), ROW_PRODUCT),
    step(
        KernelId::StepSubgroups,
        "step_subgroups",
        step_parts!(PartSlot::Weights, "shared/row_product.wgsl", "shared/subgroup_sums.wgsl"),
        ROW_PRODUCT,
    ),
    step(KernelId::StepTile, "step_tile", step_parts!(PartSlot::Weights, "shared/tile_product.wgsl"), TILE_PRODUCT),
    step(KernelId::StepMatrix, "step_matrix", step_parts!(MATRIX_WEIGHTS, "shared/matrix_product.wgsl"), MATRIX_PRODUCT),
    resident(KernelId::Resident, "resident", resident_parts!("shared/streamed_weights.wgsl")),
    resident(KernelId::ResidentHeld, "resident_held", resident_parts!("shared/held_weights.wgsl")),
    Kernel {
        id: KernelId::NormCell,
        name: "norm_cell",
        entry: "norm_cell",
        parts: &[
            file!("shared/two_float.wgsl"),
            file!("shared/vectors.wgsl"),
            file!("shared/row_mean.wgsl"),
            PartSlot::Cell,
            file!("norm_cell.wgsl"),
        ],
        constants: &["WORKGROUP_SIZE"],
        params_name: "NormCellParams",
        params: NormCellParams::FIELDS,
        params_size: size_of::<NormCellParams>(),
        bindings: &[read(2, "vectors"), read(3, "gates_x"), read(4, "lens"), write(5, "scratch"), write(6, "y"), STATE],
        overrides: &[&["RAGGED", "PROJECTED", "EPSILON"], CELL],
    },
    project(KernelId::Project, "project", project_parts!(PartSlot::Weights, "shared/row_product.wgsl", "shared/lane_sums.wgsl"), ROW_PRODUCT),
    project(
        KernelId::ProjectSubgroups,
        "project_subgroups",
        project_parts!(PartSlot::Weights, "shared/row_product.wgsl", "shared/subgroup_sums.wgsl"),
        ROW_PRODUCT,
    ),
    project(KernelId::ProjectTile, "project_tile", project_parts!(PartSlot::Weights, "shared/tile_product.wgsl"), TILE_PRODUCT),
    project(KernelId::ProjectMatrix, "project_matrix", project_parts!(MATRIX_WEIGHTS, "shared/matrix_product.wgsl"), MATRIX_PRODUCT),
];

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
