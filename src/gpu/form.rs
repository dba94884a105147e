//! The shapes in which the kernels can be built: rows, units and threads of a workgroup, and what stays in registers.

use std::fmt;

use serde::{Deserialize, Serialize};

/// `row_product.wgsl`: few rows, one output quad a thread, sums split over threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RowForm {
    /// threads of a workgroup
    pub workgroup_size: u32,
    /// rows of a workgroup
    pub rows: u32,
    /// threads that share a sum
    pub k_lanes: u32,
    /// whether they add up within subgroups first
    #[serde(default)]
    pub subgroups: bool,
}

/// `tile_product.wgsl`: many rows, a tile of rows and output quads a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TileForm {
    /// threads of a workgroup along the rows
    pub row_threads: u32,
    /// threads of a workgroup along the outputs
    pub unit_threads: u32,
    /// rows of a thread, divided by 4
    pub row_quads: u32,
    /// output quads of a thread
    pub units: u32,
}

/// `matrix_product.wgsl`: many rows, by cooperative matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MatrixForm {
    /// rows, columns and depth of a matrix: 8 or 16
    pub size: u32,
    /// matrices of a subgroup along the rows
    pub row_tiles: u32,
    /// and along the columns, which are four to an output quad
    pub column_tiles: u32,
    /// subgroups of a workgroup along the rows
    pub row_chunks: u32,
    /// and along the columns
    pub column_chunks: u32,
    /// threads of a subgroup at most; where they are fewer, a workgroup has more subgroups than it needs
    pub subgroup_threads: u32,
}

/// How a step's products are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ProductForm {
    /// for few rows
    Rows(RowForm),
    /// for many rows
    Tile(TileForm),
    /// for many rows, with f16 weights, where the adapter has cooperative matrices
    Matrix(MatrixForm),
}

/// `resident.wgsl`: all units of some rows, for many steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ResidentForm {
    /// threads of a workgroup
    pub workgroup_size: u32,
    /// rows of a workgroup
    pub rows: u32,
    /// units of a thread
    pub units: u32,
    /// threads that share a sum
    pub k_lanes: u32,
    /// whether the weights stay in registers
    pub held: bool,
}

/// `softmax.wgsl`: several threads a row, one row or several a workgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SoftmaxForm {
    /// threads of a workgroup
    pub workgroup_size: u32,
    /// threads that share a row, a power of two
    pub lanes: u32,
}

/// In which order the cells of a stack are computed, and in which form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Schedule {
    /// layer by layer, one dispatch a time step
    PerStep(ProductForm),
    /// all layers together, each one time step behind the one below: one dispatch for all of them
    Wavefront(ProductForm),
    /// layer by layer, all time steps of a chunk in one dispatch
    Resident(ResidentForm),
}

/// What a plan is built to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Choice {
    /// the recurrence
    pub schedule: Schedule,
    /// the input's product for many steps
    pub input: ProductForm,
}

impl RowForm {
    /// Output quads of a workgroup.
    pub fn group_outputs(self) -> u32 {
        self.workgroup_size / self.k_lanes
    }
}

impl TileForm {
    /// Threads of a workgroup.
    pub fn workgroup_size(self) -> u32 {
        self.row_threads * self.unit_threads
    }

    /// Rows of a workgroup.
    pub fn group_rows(self) -> u32 {
        self.row_threads * self.row_quads * 4
    }

    /// Output quads of a workgroup.
    pub fn group_outputs(self) -> u32 {
        self.unit_threads * self.units
    }
}

impl MatrixForm {
    /// Depth of a tile of the rows in workgroup memory.
    pub const K_TILE: u32 = 32;

    /// Threads of a workgroup.
    pub fn workgroup_size(self) -> u32 {
        self.row_chunks * self.column_chunks * self.subgroup_threads
    }

    /// Rows of a workgroup.
    pub fn group_rows(self) -> u32 {
        self.row_chunks * self.row_tiles * self.size
    }

    /// Columns of a workgroup, four to an output quad.
    pub fn group_columns(self) -> u32 {
        self.column_chunks * self.column_tiles * self.size
    }

    /// Bytes of workgroup memory.
    pub fn shared_bytes(self) -> u32 {
        let (rows, columns) = (self.group_rows(), self.group_columns());
        2 * rows * (Self::K_TILE + 8) + 2 * Self::K_TILE * (columns + 8) + 4 * rows * (columns + 4)
    }
}

impl ProductForm {
    /// Threads of a workgroup.
    pub fn workgroup_size(self) -> u32 {
        match self {
            Self::Rows(form) => form.workgroup_size,
            Self::Tile(form) => form.workgroup_size(),
            Self::Matrix(form) => form.workgroup_size(),
        }
    }

    /// Rows and output quads of a workgroup.
    pub fn group(self) -> (u32, u32) {
        match self {
            Self::Rows(form) => (form.rows, form.group_outputs()),
            Self::Tile(form) => (form.group_rows(), form.group_outputs()),
            Self::Matrix(form) => (form.group_rows(), form.group_columns() / 4),
        }
    }
}

impl ResidentForm {
    /// `hidden_size`, rounded up to what the threads that share a sum divide evenly, four at a time.
    pub fn inputs(self, hidden_size: usize) -> usize {
        hidden_size.next_multiple_of(4 * self.k_lanes as usize)
    }

    /// Units of a workgroup, which are at least `hidden_size`.
    pub fn group_units(self) -> u32 {
        self.workgroup_size / self.k_lanes * self.units
    }

    /// Weight quads that a thread holds in registers.
    pub fn held_quads(self, hidden_size: usize) -> usize {
        if self.held { self.inputs(hidden_size) / self.k_lanes as usize * self.units as usize } else { 0 }
    }

    /// Bytes of workgroup memory.
    pub fn shared_bytes(self, hidden_size: usize) -> usize {
        let partial = if self.k_lanes > 1 { self.rows * self.k_lanes * self.group_units() } else { 1 };
        4 * self.rows as usize * self.inputs(hidden_size) + 16 * partial as usize
    }
}

impl Schedule {
    /// Its name in the command line and in reports.
    pub fn name(self) -> ScheduleName {
        match self {
            Self::PerStep(_) => ScheduleName::PerStep,
            Self::Wavefront(_) => ScheduleName::Wavefront,
            Self::Resident(_) => ScheduleName::Resident,
        }
    }

    /// How a step's products are made, where each step is a dispatch.
    pub fn product(self) -> Option<ProductForm> {
        match self {
            Self::PerStep(form) | Self::Wavefront(form) => Some(form),
            Self::Resident(_) => None,
        }
    }
}

/// A schedule, whatever its form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ScheduleName {
    /// layer by layer, one dispatch a time step
    PerStep,
    /// all layers together, each one time step behind the one below
    Wavefront,
    /// all time steps of a chunk in one dispatch
    Resident,
}

impl ScheduleName {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::PerStep, Self::Wavefront, Self::Resident];

    /// Its name in the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::PerStep => "per-step",
            Self::Wavefront => "wavefront",
            Self::Resident => "resident",
        }
    }
}

impl fmt::Display for ScheduleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for ProductForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rows(RowForm { workgroup_size, rows, k_lanes, subgroups }) => {
                let how = if *subgroups { ", by subgroups" } else { "" };
                write!(f, "rows {rows}, {k_lanes} of {workgroup_size} threads a sum{how}")
            }
            Self::Tile(form) => form.fmt(f),
            Self::Matrix(form) => form.fmt(f),
        }
    }
}

impl fmt::Display for TileForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rows, units) = (self.row_quads * 4, self.units);
        write!(f, "tile {} x {}, {rows} x {units} a thread", self.group_rows(), self.group_outputs())
    }
}

impl fmt::Display for MatrixForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (size, rows, columns) = (self.size, self.row_tiles, self.column_tiles);
        write!(f, "matrices of {size} x {size}, {} x {}, {rows} x {columns} a subgroup", self.group_rows(), self.group_columns() / 4)
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PerStep(form) | Self::Wavefront(form) => write!(f, "{}, {form}", self.name()),
            Self::Resident(ResidentForm { workgroup_size, rows, units, k_lanes, held }) => {
                let weights = if *held { "held" } else { "streamed" };
                write!(f, "resident, rows {rows}, {units} x {workgroup_size} threads, {k_lanes} a sum, weights {weights}")
            }
        }
    }
}
