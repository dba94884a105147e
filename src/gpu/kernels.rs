//! The kernels, as plain data: their parts, parameters, bindings and overrides. `tests/shader_contract` holds the shaders to it.

use bytemuck::{Pod, Zeroable};

/// A compute kernel: a shader file of `shaders/` and the shared parts that it is joined with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KernelId {
    /// `shaders/input_gates.wgsl`
    InputGates,
    /// `shaders/norm_gates.wgsl`
    NormGates,
    /// `shaders/step.wgsl`
    Step,
    /// `shaders/norm_cell.wgsl`
    NormCell,
    /// `shaders/project.wgsl`
    Project,
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

/// A row of the kernel table.
#[derive(Clone, Copy, Debug)]
pub struct Kernel {
    /// which kernel
    pub id: KernelId,
    /// name of the file, of the entry point, and in every message
    pub name: &'static str,
    /// (file below `shaders/`, text), in the order in which they are joined
    pub parts: &'static [(&'static str, &'static str)],
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

/// Declares a uniform struct together with the list of its members, which the contract test compares with the shader's.
macro_rules! params {
    ($(#[$doc:meta])* $name:ident { $($field:ident,)* }) => {
        $(#[$doc])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
        pub struct $name {
            $(#[allow(missing_docs, reason = "the shader's struct of the same name explains its members")] pub $field: u32,)*
        }

        impl $name {
            const FIELDS: &'static [(&'static str, usize)] = &[$((stringify!($field), std::mem::offset_of!($name, $field)),)*];
        }
    };
}

params! {
    /// Uniforms of `input_gates.wgsl`.
    InputGatesParams {
        num_rows, input_size, hidden_size, weight_base, bias_base, gates_stride, x_row_0, x_row_1,
        gates_low_offset, bias_low_base, _pad0, _pad1,
    }
}
params! {
    /// Uniforms of `norm_gates.wgsl`.
    NormGatesParams { num_rows, hidden_size, gamma_base, bias_base, }
}
params! {
    /// Uniforms of `step.wgsl`.
    StepParams {
        batch, hidden_size, out_size, y_size, weight_base, peephole_base, gates_0, gates_1,
        t_0, t_1, h_prev_base, h_next_base, c_base, out_base, gates_low_offset, _pad0,
    }
}
params! {
    /// Uniforms of `norm_cell.wgsl`.
    NormCellParams {
        batch, hidden_size, y_size, peephole_base, gamma_hh_base, gamma_c_base, gates_0, gates_1,
        t_0, t_1, h_prev_base, h_next_base, c_base, gates_h_base, cell_out_base, _pad0,
    }
}
params! {
    /// Uniforms of `project.wgsl`.
    ProjectParams {
        batch, hidden_size, proj_size, y_size, weight_base, cell_out_base, t_0, t_1,
        h_prev_base, h_next_base, _pad0, _pad1,
    }
}

macro_rules! part {
    ($file:literal) => {
        ($file, include_str!(concat!("../../shaders/", $file)))
    };
}

const fn read(binding: u32, name: &'static str) -> Binding {
    Binding { group: 0, binding, name, access: Access::Read }
}

const fn write(binding: u32, name: &'static str) -> Binding {
    Binding { group: 0, binding, name, access: Access::ReadWrite }
}

/// The states that a call carries: one buffer, in a group of its own, so that a plan does not depend on whose state it runs.
const STATE: Binding = Binding { group: 1, binding: 0, name: "state", access: Access::ReadWrite };

/// Overrides of `shared/cell.wgsl`.
#[rustfmt::skip]
const CELL: &[&str] = &[
    "COUPLED", "PEEPHOLES", "CLIP", "CELL_CLIP", "PER_DIRECTION",
    "GATE_0", "GATE_ALPHA_0", "GATE_BETA_0", "CANDIDATE_0", "CANDIDATE_ALPHA_0", "CANDIDATE_BETA_0", "OUTPUT_0", "OUTPUT_ALPHA_0", "OUTPUT_BETA_0",
    "GATE_1", "GATE_ALPHA_1", "GATE_BETA_1", "CANDIDATE_1", "CANDIDATE_ALPHA_1", "CANDIDATE_BETA_1", "OUTPUT_1", "OUTPUT_ALPHA_1", "OUTPUT_BETA_1",
];

/// Overrides of `shared/row_product.wgsl`.
const ROW_PRODUCT: &[&str] = &["WORKGROUP_SIZE", "K_LANES", "ROWS", "PAIRS"];

/// Every kernel there is.
pub const KERNELS: &[Kernel] = &[
    Kernel {
        id: KernelId::InputGates,
        name: "input_gates",
        parts: &[part!("shared/two_float.wgsl"), part!("input_gates.wgsl")],
        params_name: "InputGatesParams",
        params: InputGatesParams::FIELDS,
        params_size: size_of::<InputGatesParams>(),
        bindings: &[read(1, "weights"), read(2, "x"), write(3, "gates_x")],
        overrides: &[&["HAS_BIAS", "PAIRS"]],
    },
    Kernel {
        id: KernelId::NormGates,
        name: "norm_gates",
        parts: &[part!("shared/row_mean.wgsl"), part!("norm_gates.wgsl")],
        params_name: "NormGatesParams",
        params: NormGatesParams::FIELDS,
        params_size: size_of::<NormGatesParams>(),
        bindings: &[read(1, "weights"), write(2, "gates_x")],
        overrides: &[&["WORKGROUP_SIZE", "EPSILON"]],
    },
    Kernel {
        id: KernelId::Step,
        name: "step",
        parts: &[
            part!("shared/two_float.wgsl"),
            part!("shared/row_product.wgsl"),
            part!("shared/activations.wgsl"),
            part!("shared/cell.wgsl"),
            part!("shared/pair_cell.wgsl"),
            part!("step.wgsl"),
        ],
        params_name: "StepParams",
        params: StepParams::FIELDS,
        params_size: size_of::<StepParams>(),
        bindings: &[read(1, "weights"), read(2, "gates_x"), read(3, "lens"), write(4, "out"), STATE],
        overrides: &[ROW_PRODUCT, &["RAGGED", "RAW_ONLY", "PROJECTED"], CELL],
    },
    Kernel {
        id: KernelId::NormCell,
        name: "norm_cell",
        parts: &[part!("shared/row_mean.wgsl"), part!("shared/activations.wgsl"), part!("shared/cell.wgsl"), part!("norm_cell.wgsl")],
        params_name: "NormCellParams",
        params: NormCellParams::FIELDS,
        params_size: size_of::<NormCellParams>(),
        bindings: &[read(1, "weights"), read(2, "gates_x"), read(3, "lens"), write(4, "scratch"), write(5, "y"), STATE],
        overrides: &[&["WORKGROUP_SIZE", "RAGGED", "PROJECTED", "EPSILON"], CELL],
    },
    Kernel {
        id: KernelId::Project,
        name: "project",
        parts: &[part!("shared/two_float.wgsl"), part!("shared/row_product.wgsl"), part!("project.wgsl")],
        params_name: "ProjectParams",
        params: ProjectParams::FIELDS,
        params_size: size_of::<ProjectParams>(),
        bindings: &[read(1, "weights"), read(2, "scratch"), read(3, "lens"), write(4, "y"), STATE],
        overrides: &[ROW_PRODUCT, &["RAGGED", "PROJ_CLIP"]],
    },
];

impl Kernel {
    /// Whether it has bind group 1, the state that a call carries.
    pub fn reads_state(&self) -> bool {
        self.bindings.iter().any(|binding| binding.group == STATE.group)
    }

    /// The overrides of all groups.
    pub fn override_names(&self) -> impl Iterator<Item = &'static str> {
        self.overrides.iter().copied().flatten().copied()
    }
}

impl KernelId {
    /// The kernel's row in the table.
    pub fn kernel(self) -> &'static Kernel {
        KERNELS.iter().find(|kernel| kernel.id == self).expect("every kernel has a row in the table")
    }
}
