//! Bindings, uniforms, overrides and constants: what both sides have to agree on.

use std::collections::{BTreeMap, BTreeSet};

use cellgate::gpu::kernels::{Access, CellText, KERNELS, KernelId};
use cellgate::gpu::specialise::{Shape, Specialisation, activation_code};
use cellgate::{Activation, CellActivations, LstmConfig, Precision};
use naga::{AddressSpace, Expression, Literal, StorageAccess, TypeInner};

use super::{Parsed, a_form};

#[test]
fn there_is_one_entry_point_called_like_the_file() {
    for kernel in KERNELS {
        let names: Vec<String> = Parsed::new(kernel).module.entry_points.into_iter().map(|entry| entry.name).collect();
        assert_eq!(names, [kernel.entry]);
        let own = *kernel.parts(Precision::F32, CellText::Usual).last().expect("a kernel has parts");
        assert_eq!(own.file, format!("{}.wgsl", kernel.entry), "the kernel's own file comes last");
        assert!(kernel.name.starts_with(kernel.entry), "{}: a name that says which file it is", kernel.name);
    }
}

#[test]
fn every_kernel_has_one_row() {
    let ids: BTreeSet<KernelId> = KERNELS.iter().map(|kernel| kernel.id).collect();
    assert_eq!(ids.len(), KERNELS.len());
    for kernel in KERNELS {
        assert_eq!(kernel.id.kernel().name, kernel.name);
    }
}

#[test]
fn bindings_are_those_of_the_table() {
    for kernel in KERNELS {
        let parsed = Parsed::new(kernel);
        let mut found = BTreeMap::new();
        for (_, variable) in parsed.module.global_variables.iter() {
            let Some(binding) = &variable.binding else { continue };
            let access = match variable.space {
                AddressSpace::Uniform => "uniform",
                AddressSpace::Storage { access } if access == StorageAccess::LOAD => "read",
                AddressSpace::Storage { access } if access == StorageAccess::LOAD | StorageAccess::STORE => "read_write",
                other => panic!("{}: {:?} in {other:?}", kernel.name, variable.name),
            };
            found.insert((binding.group, binding.binding), (variable.name.clone().unwrap_or_default(), access));
        }
        let mut expected = BTreeMap::from([((0, 0), ("params".to_owned(), "uniform"))]);
        for binding in kernel.bindings {
            let access = if binding.access == Access::Read { "read" } else { "read_write" };
            expected.insert((binding.group, binding.binding), (binding.name.to_owned(), access));
        }
        assert_eq!(found, expected, "{}", kernel.name);
        assert_eq!(expected.len(), kernel.bindings.len() + 1, "{}: a binding is used twice", kernel.name);
    }
}

#[test]
fn bindings_within_the_limits_of_every_adapter_and_writes_come_last() {
    for kernel in KERNELS {
        assert!(kernel.bindings.len() <= 8, "{}: {} storage buffers", kernel.name, kernel.bindings.len());
        let own: Vec<_> = kernel.bindings.iter().filter(|binding| binding.group == 0).collect();
        // a bind group is made from a list of buffers, in the table's order
        let numbers: Vec<u32> = own.iter().map(|binding| binding.binding).collect();
        assert!(numbers.is_sorted() && numbers[0] > 0, "{}: bindings of group 0 in order, behind the uniforms", kernel.name);
        let first_write = own.iter().position(|binding| binding.access == Access::ReadWrite).unwrap_or(own.len());
        assert!(own[first_write..].iter().all(|binding| binding.access == Access::ReadWrite), "{}: reads come before writes", kernel.name);
        assert!(first_write < own.len(), "{}: it writes nothing", kernel.name);
    }
}

#[test]
fn uniforms_have_the_hosts_layout() {
    for kernel in KERNELS {
        let module = Parsed::new(kernel).module;
        let (_, ty) =
            module.types.iter().find(|(_, ty)| ty.name.as_deref() == Some(kernel.params_name)).unwrap_or_else(|| panic!("{}", kernel.params_name));
        let TypeInner::Struct { members, span } = &ty.inner else { panic!("{}: not a struct", kernel.params_name) };
        let found: Vec<(&str, usize)> = members.iter().map(|member| (member.name.as_deref().unwrap_or_default(), member.offset as usize)).collect();
        assert_eq!(found, kernel.params, "{}", kernel.params_name);
        assert_eq!(*span as usize, kernel.params_size, "{}", kernel.params_name);
        assert_eq!(kernel.params_size % 16, 0, "{}: multiples of four scalars", kernel.params_name);
        for member in members {
            let scalar = matches!(module.types[member.ty].inner, TypeInner::Scalar(naga::Scalar::U32 | naga::Scalar::F32));
            assert!(scalar, "{}.{}: only u32 and f32", kernel.params_name, member.name.as_deref().unwrap_or_default());
        }
        // the binding is of this type
        let (_, params) = module.global_variables.iter().find(|(_, variable)| variable.name.as_deref() == Some("params")).expect("params");
        assert_eq!(module.types[params.ty].name.as_deref(), Some(kernel.params_name));
    }
}

#[test]
fn the_host_sets_every_override_and_no_other() {
    for kernel in KERNELS {
        for (cell, activations) in cells() {
            let config = LstmConfig { activations: [activations; 2], ..LstmConfig::new(3, 5) };
            let specialisation = Specialisation::new(kernel.id, a_form(kernel.id), &config, Shape::default());
            let expected: BTreeSet<&str> = specialisation.overrides.iter().map(|(name, _)| *name).collect();
            assert_eq!(expected.len(), specialisation.overrides.len(), "{}: an override is listed twice", kernel.name);
            assert!(!kernel.has_cells() || specialisation.cell == cell, "{}: {:?}", kernel.name, specialisation.cell);
            let module = Parsed::of(&specialisation).unwrap_or_else(|error| panic!("{error}")).module;
            let found: BTreeSet<&str> = module.overrides.iter().filter_map(|(_, value)| value.name.as_deref()).collect();
            assert_eq!(found, expected, "{}, {cell:?}", kernel.name);
            for (_, value) in module.overrides.iter() {
                assert!(value.init.is_some(), "{}: override {:?} has no default (gfx-rs/wgpu#7806)", kernel.name, value.name);
                assert!(value.id.is_none(), "{}: override {:?} goes by number", kernel.name, value.name);
            }
        }
    }
}

/// Activations for every text of a cell.
pub(crate) fn cells() -> [(CellText, CellActivations); 3] {
    let usual = CellActivations::default();
    [
        (CellText::Usual, usual),
        (CellText::Any, CellActivations { gate: Activation::HardSigmoid { alpha: 0.2, beta: 0.5 }, ..usual }),
        (CellText::Pairs, CellActivations { gate: Activation::Relu, ..usual }),
    ]
}

/// `HardSigmoid` to `HARD_SIGMOID`.
fn constant_name(name: &str) -> String {
    let mut constant = String::new();
    for (place, letter) in name.chars().enumerate() {
        if letter.is_uppercase() && place > 0 {
            constant.push('_');
        }
        constant.push(letter.to_ascii_uppercase());
    }
    constant
}

/// The eleven names of the ONNX operator.
pub(crate) const ACTIVATIONS: [&str; 11] =
    ["Sigmoid", "Tanh", "Relu", "Affine", "LeakyRelu", "ThresholdedRelu", "ScaledTanh", "HardSigmoid", "Elu", "Softsign", "Softplus"];

#[test]
fn activations_have_the_same_numbers_on_both_sides() {
    let expected: BTreeMap<String, u32> =
        ACTIVATIONS.iter().map(|name| (constant_name(name), activation_code(Activation::from_onnx(name).expect(name)))).collect();
    assert_eq!(expected.values().collect::<BTreeSet<_>>().len(), ACTIVATIONS.len(), "two activations share a number");
    let parts = KernelId::Step.kernel().parts(Precision::F32, CellText::Any);
    let text = |file: &str| parts.iter().find(|part| part.file == file).expect("step has activations").text;
    // they depend on no other file
    let text = [text("shared/sigmoid_tanh.wgsl"), text("shared/activations.wgsl")].concat();
    let module = naga::front::wgsl::parse_str(&text).expect("they parse by themselves");
    let value = |init| if let Expression::Literal(Literal::U32(value)) = module.global_expressions[init] { Some(value) } else { None };
    let found: BTreeMap<String, u32> =
        module.constants.iter().filter_map(|(_, constant)| Some((constant.name.clone()?, value(constant.init)?))).collect();
    assert_eq!(found, expected);
}

/// Elements that a thread of `roofline.wgsl` has, on both sides.
#[test]
fn a_roofline_thread_has_as_many_quads_as_the_host_takes_it_to_have() {
    let module = Parsed::new(KernelId::Roofline.kernel()).module;
    let (_, quads) = module.constants.iter().find(|(_, constant)| constant.name.as_deref() == Some("QUADS")).expect("roofline.wgsl has QUADS");
    let value = &module.global_expressions[quads.init];
    assert!(matches!(value, Expression::Literal(Literal::U32(found)) if *found as usize == cellgate::gpu::roofline::QUADS), "{value:?}");
}
