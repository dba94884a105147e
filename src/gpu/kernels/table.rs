//! The kernel table.

use crate::gpu::kernels::{
    Access, Binding, CellText, EmbedParams, InputGatesParams, Kernel, KernelId, NormCellParams, NormGatesParams, Part, PartSlot, ProjectParams,
    RelayoutParams, ResidentParams, RooflineParams, RowFunctionParams, StepParams,
};
use crate::network::Precision;

macro_rules! part {
    ($file:literal) => {
        Part { file: $file, text: include_str!(concat!("../../../shaders/", $file)) }
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
pub(super) const STATE: Binding = Binding { group: 1, binding: 0, name: "state", access: Access::ReadWrite };

/// Overrides of `shared/cell.wgsl`.
const CELL: &[&str] = &["COUPLED", "PEEPHOLES", "CLIP", "CELL_CLIP"];

/// Overrides of `shared/any_activations.wgsl`.
#[rustfmt::skip]
pub(super) const ACTIVATIONS: &[&str] = &[
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
    Kernel {
        id: KernelId::Embed,
        name: "embed",
        entry: "embed",
        parts: &[file!("embed.wgsl")],
        constants: &["WORKGROUP_SIZE"],
        params_name: "EmbedParams",
        params: EmbedParams::FIELDS,
        params_size: size_of::<EmbedParams>(),
        bindings: &[read(1, "table"), read(2, "ids"), write(3, "y")],
        overrides: &[],
    },
    Kernel {
        id: KernelId::RowActivation,
        name: "row_activation",
        entry: "row_activation",
        parts: &[file!("shared/sigmoid_tanh.wgsl"), file!("shared/activations.wgsl"), file!("row_activation.wgsl")],
        constants: &["WORKGROUP_SIZE"],
        params_name: "RowFunctionParams",
        params: RowFunctionParams::FIELDS,
        params_size: size_of::<RowFunctionParams>(),
        bindings: &[read(1, "x"), write(2, "y")],
        overrides: &[&["KIND", "ALPHA", "BETA"]],
    },
    Kernel {
        id: KernelId::Softmax,
        name: "softmax",
        entry: "softmax",
        parts: &[file!("softmax.wgsl")],
        constants: &["WORKGROUP_SIZE", "LANES"],
        params_name: "RowFunctionParams",
        params: RowFunctionParams::FIELDS,
        params_size: size_of::<RowFunctionParams>(),
        bindings: &[read(1, "x"), write(2, "y")],
        overrides: &[&["LOG"]],
    },
    Kernel {
        id: KernelId::Relayout,
        name: "relayout",
        entry: "relayout",
        parts: &[file!("relayout.wgsl")],
        constants: &["WORKGROUP_SIZE"],
        params_name: "RelayoutParams",
        params: RelayoutParams::FIELDS,
        params_size: size_of::<RelayoutParams>(),
        bindings: &[read(1, "x"), write(2, "y")],
        overrides: &[],
    },
    Kernel {
        id: KernelId::Roofline,
        name: "roofline",
        entry: "roofline",
        parts: &[file!("roofline.wgsl")],
        constants: &["WORKGROUP_SIZE"],
        params_name: "RooflineParams",
        params: RooflineParams::FIELDS,
        params_size: size_of::<RooflineParams>(),
        bindings: &[read(1, "x"), write(2, "y")],
        overrides: &[],
    },
];
