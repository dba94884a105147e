//! Finding the adapters of this machine and choosing one.

use std::collections::BTreeMap;

use crate::device::{DeviceInfo, DeviceKind, DeviceRequest, GraphicsBackend, Hardware};
use crate::error::{Error, ErrorKind};
use crate::gpu::kernels::KERNELS;

/// An adapter and what is known about it.
pub(crate) struct Adapter {
    pub(crate) adapter: wgpu::Adapter,
    pub(crate) info: DeviceInfo,
}

/// Every adapter, each once: through the best API that reaches it, unless `backend` names one.
pub(crate) async fn adapters(backend: Option<GraphicsBackend>) -> Vec<Adapter> {
    let backends = backend.map_or(wgpu::Backends::all(), to_wgpu);
    // without thresholds of memory budgets: what they refuse, a driver could have given (`ARCHITECTURE.md`, what was rejected)
    let descriptor = wgpu::InstanceDescriptor { backends, ..wgpu::InstanceDescriptor::new_without_display_handle() };
    let instance = wgpu::Instance::new(descriptor);
    let mut found: Vec<Adapter> = instance
        .enumerate_adapters(backends)
        .await
        .into_iter()
        .filter_map(|adapter| describe(&adapter).map(|info| Adapter { adapter, info }))
        .collect();
    found.sort_by_key(|adapter| (adapter.info.unusable.is_some(), adapter.info.backend, adapter.info.hardware));
    let keep = first_sightings(&found.iter().map(|adapter| &adapter.info).collect::<Vec<_>>());
    let mut keep = keep.into_iter();
    found.retain(|_| keep.next().unwrap_or(false));
    found
}

/// For each of `infos`, best API first: whether it is the first sighting of its hardware.
///
/// The same card bears slightly different names through different APIs. Two cards of one name show up twice through the *same* API,
/// so the k-th sighting through one API is the k-th card.
fn first_sightings(infos: &[&DeviceInfo]) -> Vec<bool> {
    /// How many cards of a name have been counted, and how many were seen through each API.
    #[derive(Default)]
    struct Sightings {
        counted: usize,
        through: BTreeMap<Option<GraphicsBackend>, usize>,
    }
    let mut by_name: BTreeMap<String, Sightings> = BTreeMap::new();
    infos
        .iter()
        .map(|info| {
            let sightings = by_name.entry(plain_name(&info.name)).or_default();
            let through = sightings.through.entry(info.backend).or_default();
            *through += 1;
            let first = *through > sightings.counted;
            sightings.counted += usize::from(first);
            first
        })
        .collect()
}

/// The part of an adapter's name that all APIs agree on.
fn plain_name(name: &str) -> String {
    let name = name.to_lowercase();
    let name = name.strip_prefix("mesa ").unwrap_or(&name);
    name.split(" (").next().unwrap_or(name).split('/').next().unwrap_or(name).trim().to_owned()
}

/// Why none of the adapters was chosen, and what to do about it.
#[derive(Debug)]
pub(crate) struct NoFit {
    pub(crate) why: String,
    advice: String,
}

impl NoFit {
    /// The error for a caller that cannot do without a GPU.
    pub(crate) fn into_error(self) -> Error {
        Error::new(ErrorKind::NoAdapter, format!("{}; {}", self.why, self.advice))
    }
}

/// Chooses one of `infos`; gives its index and the reason.
pub(crate) fn choose(infos: &[&DeviceInfo], request: &DeviceRequest) -> Result<(usize, String), NoFit> {
    if let Some(wanted) = &request.adapter {
        return choose_named(infos, wanted);
    }
    let usable = |software: bool| {
        let mut usable: Vec<usize> = (0..infos.len()).filter(|&i| infos[i].unusable.is_none() && infos[i].is_software() == software).collect();
        usable.sort_by_key(|&i| (infos[i].hardware, infos[i].backend));
        usable
    };
    let hardware = usable(false);
    if let Some(&best) = hardware.first() {
        let reason = if hardware.len() == 1 { "the only GPU found".to_owned() } else { format!("the first of {} GPUs found", hardware.len()) };
        return Ok((best, reason));
    }
    let software = usable(true);
    let unusable = infos.iter().find_map(|info| info.unusable.as_ref().map(|why| (info, why)));
    let through = request.backend.map_or_else(String::new, |backend| format!(" through {backend}"));
    match (software.first(), unusable) {
        (Some(&best), _) if request.allow_software => Ok((best, "no GPU found, and software adapters are allowed".to_owned())),
        (Some(_), _) => Err(NoFit {
            why: format!("no GPU found{through}, only software adapters: {}", list(infos, &software)),
            advice: format!("name one with --adapter, or pass --allow-software; {INSTALL}"),
        }),
        (None, Some((info, why))) => Err(NoFit { why: format!("no usable GPU found{through}: {info}: {why}"), advice: INSTALL.to_owned() }),
        (None, None) if request.backend.is_some_and(|backend| backend != GraphicsBackend::Vulkan) => Err(NoFit {
            why: format!("no GPU found{through}"),
            advice: "leave --backend out to look through every API, or run with --device cpu".to_owned(),
        }),
        (None, None) => Err(NoFit { why: format!("no GPU found{through}"), advice: INSTALL.to_owned() }),
    }
}

const INSTALL: &str = "install your GPU's Vulkan driver (Debian and Ubuntu: `apt install mesa-vulkan-drivers` for AMD and Intel, \
                       the vendor's package for NVIDIA) or run with --device cpu";

fn choose_named(infos: &[&DeviceInfo], wanted: &str) -> Result<(usize, String), NoFit> {
    let needle = wanted.to_lowercase();
    let matches: Vec<usize> =
        (0..infos.len()).filter(|&i| infos[i].name.to_lowercase().contains(&needle) || infos[i].pci.to_lowercase().contains(&needle)).collect();
    match matches[..] {
        [one] => match &infos[one].unusable {
            None => Ok((one, format!("named by `{wanted}`"))),
            Some(why) => Err(NoFit { why: format!("adapter {} cannot be used: {why}", infos[one]), advice: "name another one".to_owned() }),
        },
        [] => Err(NoFit {
            why: format!("no adapter's name contains `{wanted}`"),
            advice: format!("there are: {}", list(infos, &(0..infos.len()).collect::<Vec<_>>())),
        }),
        _ => Err(NoFit {
            why: format!("several adapters' names contain `{wanted}`: {}", list(infos, &matches)),
            advice: "give more of the name, or the PCI address".to_owned(),
        }),
    }
}

fn list(infos: &[&DeviceInfo], which: &[usize]) -> String {
    if which.is_empty() {
        return "none".to_owned();
    }
    let names: Vec<String> =
        which.iter().map(|&i| if infos[i].pci.is_empty() { infos[i].to_string() } else { format!("{} at {}", infos[i], infos[i].pci) }).collect();
    names.join("; ")
}

fn to_wgpu(backend: GraphicsBackend) -> wgpu::Backends {
    match backend {
        GraphicsBackend::Vulkan => wgpu::Backends::VULKAN,
        GraphicsBackend::Metal => wgpu::Backends::METAL,
        GraphicsBackend::Dx12 => wgpu::Backends::DX12,
        GraphicsBackend::WebGpu => wgpu::Backends::BROWSER_WEBGPU,
        GraphicsBackend::Gl => wgpu::Backends::GL,
    }
}

fn describe(adapter: &wgpu::Adapter) -> Option<DeviceInfo> {
    let info = adapter.get_info();
    let limits = adapter.limits();
    let backend = match info.backend {
        wgpu::Backend::Vulkan => GraphicsBackend::Vulkan,
        wgpu::Backend::Metal => GraphicsBackend::Metal,
        wgpu::Backend::Dx12 => GraphicsBackend::Dx12,
        wgpu::Backend::BrowserWebGpu => GraphicsBackend::WebGpu,
        wgpu::Backend::Gl => GraphicsBackend::Gl,
        wgpu::Backend::Noop => return None,
    };
    let hardware = match info.device_type {
        wgpu::DeviceType::DiscreteGpu => Hardware::Discrete,
        wgpu::DeviceType::IntegratedGpu => Hardware::Integrated,
        wgpu::DeviceType::VirtualGpu => Hardware::Virtual,
        wgpu::DeviceType::Other => Hardware::Unknown,
        wgpu::DeviceType::Cpu => Hardware::Cpu,
    };
    let compute = adapter.get_downlevel_capabilities().flags.contains(wgpu::DownlevelFlags::COMPUTE_SHADERS);
    let storage_buffers = KERNELS.iter().map(|kernel| kernel.bindings.len() as u32).max().unwrap_or(0);
    let unusable = if !compute {
        Some("it has no compute shaders".to_owned())
    } else if limits.max_storage_buffers_per_shader_stage < storage_buffers {
        Some(format!(
            "limit max_storage_buffers_per_shader_stage: need {storage_buffers}, the adapter allows {}",
            limits.max_storage_buffers_per_shader_stage
        ))
    } else {
        None
    };
    Some(DeviceInfo {
        kind: DeviceKind::Gpu,
        name: info.name,
        hardware,
        backend: Some(backend),
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
        pci: info.device_pci_bus_id,
        pci_id: if info.vendor == 0 { String::new() } else { format!("{:04x}:{:04x}", info.vendor, info.device) },
        limits: named_limits(&limits),
        features: named_features(adapter.features()),
        unusable,
    })
}

/// The limits that decide what fits, by WebGPU name.
pub(super) fn named_limits(limits: &wgpu::Limits) -> Vec<(String, u64)> {
    let limit = |name: &str, value: u64| (name.to_owned(), value);
    vec![
        limit("max_storage_buffer_binding_size", limits.max_storage_buffer_binding_size),
        limit("max_buffer_size", limits.max_buffer_size),
        limit("max_compute_workgroup_storage_size", limits.max_compute_workgroup_storage_size.into()),
        limit("max_compute_invocations_per_workgroup", limits.max_compute_invocations_per_workgroup.into()),
        limit("max_compute_workgroups_per_dimension", limits.max_compute_workgroups_per_dimension.into()),
        limit("max_storage_buffers_per_shader_stage", limits.max_storage_buffers_per_shader_stage.into()),
    ]
}

/// The optional features that cellgate could use, by WebGPU name.
pub(super) fn named_features(features: wgpu::Features) -> Vec<String> {
    let has = |feature: wgpu::Features, name: &str| features.contains(feature).then(|| name.to_owned());
    [
        has(wgpu::Features::SHADER_F16, "shader-f16"),
        has(wgpu::Features::SUBGROUP, "subgroups"),
        has(wgpu::Features::TIMESTAMP_QUERY, "timestamp-query"),
        has(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX, "cooperative-matrix"),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter(name: &str, hardware: Hardware, backend: GraphicsBackend) -> DeviceInfo {
        DeviceInfo { name: name.to_owned(), hardware, kind: DeviceKind::Gpu, backend: Some(backend), ..DeviceInfo::cpu(DeviceKind::Gpu) }
    }

    fn sightings(infos: &[DeviceInfo]) -> Vec<bool> {
        first_sightings(&infos.iter().collect::<Vec<_>>())
    }

    #[test]
    fn an_adapter_seen_through_several_apis_counts_once() {
        use GraphicsBackend::{Dx12, Gl, Vulkan};
        let infos = [
            adapter("NVIDIA GeForce RTX 3080", Hardware::Discrete, Vulkan),
            adapter("Intel(R) UHD Graphics 620 (KBL GT2)", Hardware::Integrated, Vulkan),
            adapter("llvmpipe (LLVM 15.0.6, 256 bits)", Hardware::Cpu, Vulkan),
            adapter("NVIDIA GeForce RTX 3080", Hardware::Discrete, Dx12),
            adapter("NVIDIA GeForce RTX 3080/PCIe/SSE2", Hardware::Discrete, Gl),
            adapter("Mesa Intel(R) UHD Graphics 620 (KBL GT2)", Hardware::Integrated, Gl),
            adapter("llvmpipe (LLVM 15.0.6, 256 bits)", Hardware::Cpu, Gl),
            adapter("Some Other Card", Hardware::Discrete, Gl),
        ];
        assert_eq!(sightings(&infos), [true, true, true, false, false, false, false, true]);
    }

    #[test]
    fn two_cards_of_one_name_stay_two() {
        use GraphicsBackend::{Dx12, Vulkan};
        let card = |backend| adapter("AMD Radeon RX 7900 XTX", Hardware::Discrete, backend);
        assert_eq!(sightings(&[card(Vulkan), card(Vulkan), card(Dx12), card(Dx12)]), [true, true, false, false]);
        assert_eq!(sightings(&[card(Vulkan), card(Dx12), card(Dx12)]), [true, false, true]);
    }

    fn request(adapter: Option<&str>, allow_software: bool) -> DeviceRequest {
        DeviceRequest { adapter: adapter.map(str::to_owned), allow_software, ..DeviceRequest::default() }
    }

    #[test]
    fn hardware_comes_before_software_and_discrete_before_integrated() {
        let infos = [
            adapter("llvmpipe", Hardware::Cpu, GraphicsBackend::Vulkan),
            adapter("Intel UHD", Hardware::Integrated, GraphicsBackend::Vulkan),
            adapter("Radeon", Hardware::Discrete, GraphicsBackend::Gl),
        ];
        let infos: Vec<_> = infos.iter().collect();
        assert_eq!(choose(&infos, &request(None, true)).map(|(i, _)| i).ok(), Some(2));
        assert_eq!(choose(&infos[..2], &request(None, true)).map(|(i, _)| i).ok(), Some(1));
        assert_eq!(choose(&infos[..1], &request(None, true)).map(|(i, _)| i).ok(), Some(0));
        assert_eq!(choose(&infos, &request(Some("LLVM"), false)).map(|(i, _)| i).ok(), Some(0));
    }

    #[test]
    fn no_adapter_and_several_are_errors_that_list_what_there_is() {
        let infos = [
            adapter("llvmpipe", Hardware::Cpu, GraphicsBackend::Vulkan),
            adapter("Radeon Pro", Hardware::Discrete, GraphicsBackend::Vulkan),
            adapter("Radeon RX", Hardware::Discrete, GraphicsBackend::Vulkan),
        ];
        let infos: Vec<_> = infos.iter().collect();
        let through_metal = DeviceRequest { backend: Some(GraphicsBackend::Metal), ..request(None, false) };
        for (infos, request, words) in [
            (&infos[..1], request(None, false), ["llvmpipe", "--allow-software", "mesa-vulkan-drivers"]),
            (&infos[..0], request(None, true), ["no GPU found", "mesa-vulkan-drivers", "--device cpu"]),
            (&infos[..], request(Some("radeon"), false), ["Radeon Pro", "Radeon RX", "several"]),
            (&infos[..], request(Some("geforce"), false), ["geforce", "llvmpipe", "Radeon RX"]),
            (&infos[..0], through_metal, ["no GPU found through metal", "--backend", "every API"]),
        ] {
            let error = choose(infos, &request).expect_err("there is no single fit").into_error();
            assert_eq!(error.kind(), ErrorKind::NoAdapter);
            for word in words {
                assert!(error.to_string().contains(word), "`{word}` in: {error}");
            }
        }
    }
}
