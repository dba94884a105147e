//! The contract between `shaders/` and `gpu::kernels`, checked by naga on any machine: no device is opened.

mod files;
mod interface;
mod translate;

use cellgate::LstmConfig;
use cellgate::gpu::form::{MatrixForm, ProductForm, ResidentForm, RowForm, SoftmaxForm};
use cellgate::gpu::kernels::{Extension, Kernel, KernelId};
use cellgate::gpu::plan::TILES;
use cellgate::gpu::shader::Shader;
use cellgate::gpu::specialise::{Form, Shape, Specialisation};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};

/// What every WebGPU implementation has: nothing optional.
const WEB_BASELINE: Capabilities = Capabilities::SHADER_FLOAT16_IN_FLOAT32;

/// What a kernel may use.
fn capabilities(kernel: &Kernel) -> Capabilities {
    match kernel.extension() {
        None => WEB_BASELINE,
        Some(Extension::Subgroups) => WEB_BASELINE | Capabilities::SUBGROUP,
        Some(Extension::Matrices) => WEB_BASELINE | Capabilities::SUBGROUP | Capabilities::SHADER_FLOAT16 | Capabilities::COOPERATIVE_MATRIX,
    }
}

/// A form that the kernel can be built in.
fn a_form(kernel: KernelId) -> Form {
    let resident = ResidentForm { workgroup_size: 32, rows: 4, units: 1, k_lanes: 4, held: kernel == KernelId::ResidentHeld };
    match kernel {
        KernelId::NormGates | KernelId::NormCell | KernelId::Embed | KernelId::RowActivation | KernelId::Relayout | KernelId::Roofline => Form::Only,
        KernelId::Softmax => Form::Softmax(SoftmaxForm { workgroup_size: 64, lanes: 16 }),
        KernelId::InputGatesRows | KernelId::Step | KernelId::Project => {
            Form::Product(ProductForm::Rows(RowForm { workgroup_size: 64, rows: 4, k_lanes: 4, subgroups: false }))
        }
        KernelId::InputGatesSubgroups | KernelId::StepSubgroups | KernelId::ProjectSubgroups => {
            Form::Product(ProductForm::Rows(RowForm { workgroup_size: 64, rows: 4, k_lanes: 4, subgroups: true }))
        }
        KernelId::InputGatesMatrix | KernelId::StepMatrix | KernelId::ProjectMatrix => Form::Product(ProductForm::Matrix(MatrixForm {
            size: 16,
            row_tiles: 1,
            column_tiles: 2,
            row_chunks: 2,
            column_chunks: 2,
            subgroup_threads: 32,
        })),
        KernelId::InputGates | KernelId::StepTile | KernelId::ProjectTile => Form::Product(ProductForm::Tile(TILES[0])),
        KernelId::Resident | KernelId::ResidentHeld => Form::Resident(resident),
    }
}

/// A kernel's shader, parsed and validated, with its overrides still open.
struct Parsed {
    kernel: &'static Kernel,
    module: naga::Module,
    info: ModuleInfo,
}

impl Parsed {
    /// In a form that it can be built in.
    fn new(kernel: &'static Kernel) -> Self {
        Self::of(&Specialisation::new(kernel.id, a_form(kernel.id), &LstmConfig::new(3, 5), Shape::default()))
            .unwrap_or_else(|error| panic!("{error}"))
    }

    fn of(specialisation: &Specialisation) -> Result<Self, String> {
        let kernel = specialisation.kernel.kernel();
        let source = Shader::new(specialisation).source;
        let options = naga::front::wgsl::Options { parse_doc_comments: false, capabilities: capabilities(kernel) };
        let module = naga::front::wgsl::Frontend::new_with_options(options)
            .parse(&source)
            .map_err(|error| format!("{}: {}", kernel.name, error.emit_to_string(&source)))?;
        let info = Validator::new(ValidationFlags::all(), capabilities(kernel))
            .validate(&module)
            .map_err(|error| format!("{}: {}", kernel.name, error.emit_to_string(&source)))?;
        Ok(Self { kernel, module, info })
    }
}
