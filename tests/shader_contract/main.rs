//! The contract between `shaders/` and `gpu::kernels`, checked by naga on any machine: no device is opened.

mod files;
mod interface;
mod translate;

use cellgate::gpu::kernels::Kernel;
use cellgate::gpu::shader::Shader;
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};

/// What every WebGPU implementation has: nothing optional.
const WEB_BASELINE: Capabilities = Capabilities::SHADER_FLOAT16_IN_FLOAT32;

/// A kernel's shader, parsed and validated, with its overrides still open.
struct Parsed {
    kernel: &'static Kernel,
    module: naga::Module,
    info: ModuleInfo,
}

impl Parsed {
    fn new(kernel: &'static Kernel) -> Self {
        let source = Shader::new(kernel).source;
        let options = naga::front::wgsl::Options { parse_doc_comments: false, capabilities: WEB_BASELINE };
        let module = naga::front::wgsl::Frontend::new_with_options(options)
            .parse(&source)
            .unwrap_or_else(|error| panic!("{}: {}", kernel.name, error.emit_to_string(&source)));
        let info = Validator::new(ValidationFlags::all(), WEB_BASELINE)
            .validate(&module)
            .unwrap_or_else(|error| panic!("{}: {}", kernel.name, error.emit_to_string(&source)));
        Self { kernel, module, info }
    }
}
