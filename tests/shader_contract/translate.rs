//! Every specialisation that the code can produce becomes SPIR-V, MSL, HLSL and GLSL, within the limits of every adapter.

use std::collections::BTreeMap;

use cellgate::gpu::form::{Schedule, SoftmaxForm};
use cellgate::gpu::kernels::{CellText, Extension, KERNELS, KernelId};
use cellgate::gpu::pack::{PackedLayer, PackedLayout, Region};
use cellgate::gpu::plan::{CostModel, DeviceProfile, candidates};
use cellgate::gpu::specialise::{Form, Shape, Specialisation};
use cellgate::{Activation, CellActivations, Direction, Hardware, LstmConfig, Precision, RowFunction};
use naga::back::{PipelineConstants, glsl, hlsl, msl, pipeline_constants::process_overrides, spv};
use naga::proc::BoundsCheckPolicies;
use naga::valid::ModuleInfo;
use naga::{AddressSpace, Module, ShaderStage};
use rayon::prelude::*;

use super::interface::ACTIVATIONS;
use super::{Parsed, a_form};

/// The least that WebGPU promises.
const MAX_WORKGROUP_BYTES: u32 = 16_384;
const MAX_WORKGROUP_THREADS: u32 = 256;

/// Workgroup memory of every adapter known that has cooperative matrices.
const MAX_MATRIX_BYTES: u32 = 32_768;

/// Every option of [`LstmConfig`] that a kernel sees, alone and together.
fn variants() -> Vec<LstmConfig> {
    let plain = LstmConfig::new(3, 5);
    let change = |change: &dyn Fn(&mut LstmConfig)| {
        let mut config = plain.clone();
        change(&mut config);
        config
    };
    vec![
        plain.clone(),
        change(&|config| config.bias = false),
        change(&|config| config.peepholes = true),
        change(&|config| config.input_forget = true),
        change(&|config| (config.peepholes, config.input_forget) = (true, true)),
        change(&|config| config.clip = Some(0.5)),
        change(&|config| config.cell_clip = Some(0.5)),
        change(&|config| config.proj_size = Some(2)),
        change(&|config| (config.proj_size, config.proj_clip) = (Some(2), Some(0.5))),
        change(&|config| config.layer_norm = Some(1e-5)),
        change(&|config| (config.layer_norm, config.proj_size) = (Some(1e-3), Some(2))),
        change(&|config| {
            (config.bias, config.peepholes, config.input_forget, config.layer_norm) = (false, true, true, Some(1e-5));
            (config.proj_size, config.clip, config.cell_clip, config.proj_clip) = (Some(2), Some(1.5), Some(2.5), Some(3.5));
        }),
    ]
}

fn activations() -> Vec<CellActivations> {
    let mut sets = vec![CellActivations::default()];
    for name in ACTIVATIONS {
        let activation = Activation::from_onnx(name).expect(name).with_parameters(0.3, -0.7);
        sets.push(CellActivations { gate: activation, candidate: activation, output: activation });
    }
    sets
}

fn configs() -> Vec<LstmConfig> {
    let mut configs = Vec::new();
    for variant in variants() {
        for activations in activations() {
            // the same in both directions, and of its own in direction 1
            for second in [None, Some(activations), Some(CellActivations::default())] {
                let mut config = LstmConfig { activations: [activations; 2], ..variant.clone() };
                if let Some(second) = second {
                    (config.direction, config.activations[1]) = (Direction::Bidirectional, second);
                }
                configs.push(config);
            }
        }
    }
    configs
}

fn shapes() -> Vec<Shape> {
    let shape = |(ragged, wavefront)| Shape { ragged, wavefront, ..Shape::default() };
    let mut shapes = [(false, false), (false, true), (true, false), (true, true)].map(shape).to_vec();
    let activations = ACTIVATIONS.map(|name| RowFunction::Activation(Activation::from_onnx(name).expect(name).with_parameters(0.3, -0.7)));
    let functions = activations.into_iter().chain([RowFunction::Softmax, RowFunction::LogSoftmax]);
    shapes.extend(functions.map(|function| Shape { function, ..Shape::default() }));
    shapes
}

/// Every form in which candidates for a range of sizes build a kernel, on a device with the least that WebGPU promises.
fn forms() -> BTreeMap<String, (KernelId, Form, LstmConfig, Precision)> {
    let mut forms = BTreeMap::new();
    for (hidden_size, proj_size) in [
        (1, None),
        (5, None),
        (32, Some(8)),
        (48, None),
        (64, None),
        (100, None),
        (128, None),
        (256, Some(130)),
        (300, None),
        (512, None),
        (1024, None),
    ] {
        let config = LstmConfig { num_layers: 2, proj_size, ..LstmConfig::new(3, hidden_size) };
        for precision in Precision::ALL {
            let lone =
                PackedLayer { weight_ih: Region::default(), weight_hh: Region::default(), weight_hr: Region::default(), joined: true, vectors: 0 };
            let layout = PackedLayout { precision, layers: vec![lone; 2] };
            for batch in [1, 7, 500] {
                let choices = devices().into_iter().flat_map(|device| candidates(&config, &layout, batch, None, &device));
                for choice in choices {
                    let mut add = |kernel: KernelId, form: Form| {
                        let key = format!("{kernel:?} {form:?} {precision} {}", if matches!(form, Form::Resident(_)) { hidden_size } else { 0 });
                        forms.insert(key, (kernel, form, config.clone(), precision));
                    };
                    add(KernelId::input_gates(choice.input), Form::Product(choice.input));
                    match choice.schedule {
                        Schedule::PerStep(form) | Schedule::Wavefront(form) => {
                            add(KernelId::step(form), Form::Product(form));
                            add(KernelId::project(form), Form::Product(form));
                        }
                        // what has the memory of a device with matrices is not for others
                        Schedule::Resident(form) if form.shared_bytes(hidden_size) > MAX_WORKGROUP_BYTES as usize => {}
                        Schedule::Resident(form) => add(if form.held { KernelId::ResidentHeld } else { KernelId::Resident }, Form::Resident(form)),
                    }
                }
            }
        }
    }
    for lanes in [1, 2, 16, 64, 256] {
        let form = Form::Softmax(SoftmaxForm { workgroup_size: lanes.max(64), lanes });
        forms.insert(format!("{form:?}"), (KernelId::Softmax, form, LstmConfig::new(3, 5), Precision::F32));
    }
    forms
}

/// A device with the least that WebGPU promises.
fn least() -> DeviceProfile {
    DeviceProfile { subgroups: Some((4, 128)), ..DeviceProfile::least(Hardware::Integrated) }
}

/// Devices that differ in the forms that they have.
fn devices() -> Vec<DeviceProfile> {
    let matrices = |size| DeviceProfile { matrices: Some(size), max_workgroup_bytes: MAX_MATRIX_BYTES, ..least() };
    // input products take the cheapest form alone
    let mut devices: Vec<_> = [8, 16].map(matrices).to_vec();
    devices.extend([0.1, 100.0].map(|matrix_rate| DeviceProfile { model: CostModel { matrix_rate, ..least().model }, ..matrices(16) }));
    devices.push(least());
    devices
}

#[test]
fn every_specialisation_translates_for_every_api() {
    let (configs, shapes) = (configs(), shapes());
    for kernel in KERNELS {
        let mut distinct: BTreeMap<(CellText, u32, Vec<u64>), Specialisation> = BTreeMap::new();
        for config in &configs {
            config.validate().expect("the variants are valid");
            for &shape in &shapes {
                let specialisation = Specialisation::new(kernel.id, a_form(kernel.id), config, shape);
                let values = specialisation.overrides.iter().map(|(_, value)| value.to_bits()).collect();
                let constants = specialisation.constants.iter().map(|(_, value)| *value).sum();
                distinct.insert((specialisation.cell, constants, values), specialisation);
            }
        }
        eprintln!("{}: {} specialisations", kernel.name, distinct.len());
        let mut parsed = BTreeMap::new();
        for specialisation in distinct.values() {
            let made = || Parsed::of(specialisation).unwrap_or_else(|error| panic!("{error}"));
            parsed.entry((specialisation.cell, specialisation.constants.clone())).or_insert_with(made);
        }
        let failures: Vec<String> = distinct
            .into_values()
            .par_bridge()
            .filter_map(|specialisation| check(&parsed[&(specialisation.cell, specialisation.constants)], &specialisation.overrides).err())
            .collect();
        assert!(failures.is_empty(), "{}: {} failures, the first: {}", kernel.name, failures.len(), failures[0]);
    }
}

#[test]
fn every_form_and_precision_translates_for_every_api() {
    let forms = forms();
    eprintln!("{} forms", forms.len());
    let failures: Vec<String> = forms
        .into_par_iter()
        .filter_map(|(name, (kernel, form, config, precision))| {
            let specialisation = Specialisation::new(kernel, form, &config, Shape { precision, ragged: true, ..Shape::default() });
            let parsed = Parsed::of(&specialisation).map_err(|error| format!("{name}: {error}"));
            parsed.and_then(|parsed| check(&parsed, &specialisation.overrides)).err()
        })
        .collect();
    assert!(failures.is_empty(), "{} failures, the first: {}", failures.len(), failures[0]);
}

#[test]
fn every_default_is_valid() {
    for kernel in KERNELS {
        check(&Parsed::new(kernel), &[]).unwrap_or_else(|error| panic!("{error}"));
    }
}

fn check(parsed: &Parsed, overrides: &[(&'static str, f64)]) -> Result<(), String> {
    let name = parsed.kernel.entry;
    let because = |what: &str, error: &dyn std::fmt::Display| format!("{} with {overrides:?}: {what}: {error}", parsed.kernel.name);
    let constants: PipelineConstants = overrides.iter().map(|&(name, value)| (name.to_owned(), value)).collect();
    let entry = (ShaderStage::Compute, name);
    let (module, info) = process_overrides(&parsed.module, &parsed.info, Some(entry), &constants).map_err(|error| because("overrides", &error))?;
    let threads: u32 = module.entry_points[0].workgroup_size.iter().product();
    if threads > MAX_WORKGROUP_THREADS {
        return Err(because("threads of a workgroup", &threads));
    }
    let bytes = workgroup_bytes(&module);
    let extension = parsed.kernel.extension();
    if bytes > if extension == Some(Extension::Matrices) { MAX_MATRIX_BYTES } else { MAX_WORKGROUP_BYTES } {
        return Err(because("bytes of workgroup memory", &bytes));
    }
    to_spirv(&module, &info, name).map_err(|error| because("SPIR-V", &error))?;
    let metal = if extension == Some(Extension::Matrices) { (2, 3) } else { (2, 1) };
    to_msl(&module, &info, name, metal).map_err(|error| because("MSL", &error))?;
    if extension == Some(Extension::Matrices) {
        // wgpu has no cooperative matrices through DirectX and OpenGL
        return Ok(());
    }
    // subgroups are a matter of shader model 6
    let model = if extension.is_some() { hlsl::ShaderModel::V6_0 } else { hlsl::ShaderModel::V5_1 };
    to_hlsl(&module, &info, name, model).map_err(|error| because("HLSL", &error))?;
    if extension.is_some() {
        // wgpu has no subgroups through OpenGL
        return Ok(());
    }
    for version in [glsl::Version::new_gles(310), glsl::Version::Desktop(430)] {
        to_glsl(&module, &info, name, version).map_err(|error| because("GLSL", &error))?;
    }
    Ok(())
}

fn workgroup_bytes(module: &Module) -> u32 {
    let shared = module.global_variables.iter().filter(|(_, variable)| variable.space == AddressSpace::WorkGroup);
    shared.map(|(_, variable)| module.types[variable.ty].inner.size(module.to_ctx())).sum()
}

fn to_spirv(module: &Module, info: &ModuleInfo, name: &str) -> Result<(), spv::Error> {
    // 1.3 is what wgpu writes for Vulkan 1.1, the oldest that it supports
    let options = spv::Options { lang_version: (1, 3), ..spv::Options::default() };
    let entry = spv::PipelineOptions { shader_stage: ShaderStage::Compute, entry_point: name.to_owned() };
    spv::write_vec(module, info, &options, Some(&entry)).map(|_| ())
}

fn to_msl(module: &Module, info: &ModuleInfo, name: &str, lang_version: (u8, u8)) -> Result<(), msl::Error> {
    let options = msl::Options { lang_version, ..msl::Options::default() };
    let entry = msl::PipelineOptions { entry_point: Some((ShaderStage::Compute, name.to_owned())), ..msl::PipelineOptions::default() };
    msl::write_string(module, info, &options, &entry).map(|_| ())
}

fn to_hlsl(module: &Module, info: &ModuleInfo, name: &str, shader_model: hlsl::ShaderModel) -> Result<(), hlsl::Error> {
    let options = hlsl::Options { shader_model, ..hlsl::Options::default() };
    let entry = hlsl::PipelineOptions { entry_point: Some((ShaderStage::Compute, name.to_owned())) };
    let mut text = String::new();
    hlsl::Writer::new(&mut text, &options, &entry).write(module, info, None).map(|_| ())
}

fn to_glsl(module: &Module, info: &ModuleInfo, name: &str, version: glsl::Version) -> Result<(), glsl::Error> {
    let options = glsl::Options { version, ..glsl::Options::default() };
    let entry = glsl::PipelineOptions { shader_stage: ShaderStage::Compute, entry_point: name.to_owned(), multiview: None };
    let mut text = String::new();
    glsl::Writer::new(&mut text, module, info, &options, &entry, BoundsCheckPolicies::default())?.write().map(|_| ())
}
