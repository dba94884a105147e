//! From WGSL to SPIR-V, as wgpu does it.

use naga::back::{PipelineConstants, pipeline_constants::process_overrides, spv};
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, Module, ShaderStage, front};

use crate::Result;
use crate::shipped::Shipped;

/// A shader that was parsed and validated, with its overrides still open.
pub(crate) struct Parsed {
    pub(crate) module: Module,
    info: ModuleInfo,
}

/// What a Vulkan driver compiles.
pub(crate) struct Spirv {
    pub(crate) words: Vec<u32>,
    pub(crate) entry_point: &'static str,
    pub(crate) bindings: Vec<Binding>,
}

/// A buffer of a shader.
pub(crate) struct Binding {
    pub(crate) group: u32,
    pub(crate) binding: u32,
    pub(crate) uniform: bool,
}

/// Which of wgpu's run-time checks are compiled in.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Checks {
    /// none: `create_shader_module_trusted`
    Trusted,
    /// all: `create_shader_module`
    Checked,
}

pub(crate) fn parse(shipped: &Shipped) -> Result<Parsed> {
    // what a shader may use is not the question here, so everything is allowed
    let options = front::wgsl::Options { parse_doc_comments: false, capabilities: Capabilities::all() };
    let failed = |error: String| format!("{}: {error}", shipped.kernel);
    let module =
        front::wgsl::Frontend::new_with_options(options).parse(&shipped.wgsl).map_err(|error| failed(error.emit_to_string(&shipped.wgsl)))?;
    let info =
        Validator::new(ValidationFlags::all(), Capabilities::all()).validate(&module).map_err(|error| failed(error.emit_to_string(&shipped.wgsl)))?;
    Ok(Parsed { module, info })
}

pub(crate) fn translate(shipped: &Shipped, checks: Checks) -> Result<Spirv> {
    let parsed = parse(shipped)?;
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", shipped.kernel);
    let constants: PipelineConstants = shipped.overrides.iter().map(|&(name, value)| (name.to_owned(), value)).collect();
    let entry_point = (ShaderStage::Compute, shipped.entry_point);
    let (module, info) = process_overrides(&parsed.module, &parsed.info, Some(entry_point), &constants).map_err(|error| failed(&error))?;
    let pipeline = spv::PipelineOptions { shader_stage: ShaderStage::Compute, entry_point: shipped.entry_point.to_owned() };
    let words = spv::write_vec(&module, &info, &options(checks), Some(&pipeline)).map_err(|error| failed(&error))?;
    let bindings = module.global_variables.iter().filter_map(|(_, variable)| {
        let place = variable.binding.as_ref()?;
        Some(Binding { group: place.group, binding: place.binding, uniform: variable.space == AddressSpace::Uniform })
    });
    Ok(Spirv { words, entry_point: shipped.entry_point, bindings: bindings.collect() })
}

/// wgpu's options for a Vulkan 1.3 driver with `robustBufferAccess2`, which checks the indices into buffers itself.
/// Workgroup memory is not cleared either way, because the crate says so.
fn options(checks: Checks) -> spv::Options<'static> {
    let checked = checks == Checks::Checked;
    let index = if checked { BoundsCheckPolicy::Restrict } else { BoundsCheckPolicy::Unchecked };
    spv::Options {
        lang_version: (1, 6),
        flags: spv::WriterFlags::empty(),
        bounds_check_policies: BoundsCheckPolicies { index, ..BoundsCheckPolicies::default() },
        zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
        force_loop_bounding: checked,
        emit_int_div_checks: checked,
        ..spv::Options::default()
    }
}
