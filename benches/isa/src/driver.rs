//! A Vulkan driver as a compiler: pipelines are made for what the driver says about them, and never run.

use std::ffi::{CStr, CString};

use ash::{Device, Entry, Instance, khr, vk};

use crate::Result;
use crate::spirv::Spirv;

/// An open device of the one driver that the loader was told of.
pub(crate) struct Driver {
    device: Device,
    executables: khr::pipeline_executable_properties::Device,
    /// the driver and its version
    pub(crate) name: String,
    // last, because the device goes through them
    _instance: Instance,
    _entry: Entry,
}

/// What a driver made of a shader.
pub(crate) struct Compiled {
    pub(crate) subgroup_size: u32,
    statistics: Vec<(String, u64)>,
    /// of the instructions, the last of the representations that the driver tells
    pub(crate) disassembly: String,
}

impl Driver {
    pub(crate) fn open() -> Result<Self> {
        let failed = |what: &str, error: &dyn std::fmt::Display| format!("{what}: {error}");
        // SAFETY: loads the system's Vulkan loader, whose initialisation is sound in a process that has but this thread.
        let entry = unsafe { Entry::load() }.map_err(|error| failed("no Vulkan loader (Debian, Ubuntu: apt install libvulkan1)", &error))?;
        let application = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_3);
        // SAFETY: `create` and what it points to outlive the call.
        let instance = unsafe { entry.create_instance(&vk::InstanceCreateInfo::default().application_info(&application), None) }
            .map_err(|error| failed("no Vulkan instance", &error))?;
        // SAFETY: the instance is alive.
        let physical = unsafe { instance.enumerate_physical_devices() }.map_err(|error| failed("the driver shows no device", &error))?;
        let &physical = physical.first().ok_or("the driver shows no device")?;
        let mut driver = vk::PhysicalDeviceDriverProperties::default();
        let mut properties = vk::PhysicalDeviceProperties2::default().push_next(&mut driver);
        // SAFETY: the device belongs to the living instance; `properties` and its chain are writable.
        unsafe { instance.get_physical_device_properties2(physical, &mut properties) };
        let name = format!("{} {}", text(&driver.driver_name), text(&driver.driver_info));

        let mut executable_info = vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR::default();
        let mut robustness = vk::PhysicalDeviceRobustness2FeaturesEXT::default();
        let mut features_11 = vk::PhysicalDeviceVulkan11Features::default();
        let mut features_12 = vk::PhysicalDeviceVulkan12Features::default();
        let mut features_13 = vk::PhysicalDeviceVulkan13Features::default();
        // everything that the driver has, as far as shaders can ask for it
        let mut features = vk::PhysicalDeviceFeatures2::default()
            .push_next(&mut executable_info)
            .push_next(&mut robustness)
            .push_next(&mut features_11)
            .push_next(&mut features_12)
            .push_next(&mut features_13);
        let mut extensions = vec![khr::pipeline_executable_properties::NAME.as_ptr(), ash::ext::robustness2::NAME.as_ptr()];
        // SAFETY: the device belongs to the living instance.
        let known = unsafe { instance.enumerate_device_extension_properties(physical) }.map_err(|error| failed("no extensions", &error))?;
        let mut matrices = vk::PhysicalDeviceCooperativeMatrixFeaturesKHR::default();
        if known.iter().any(|extension| extension.extension_name_as_c_str() == Ok(khr::cooperative_matrix::NAME)) {
            extensions.push(khr::cooperative_matrix::NAME.as_ptr());
            features = features.push_next(&mut matrices);
        }
        // SAFETY: as above; `features` and its chain are writable.
        unsafe { instance.get_physical_device_features2(physical, &mut features) };
        let queues = [vk::DeviceQueueCreateInfo::default().queue_family_index(0).queue_priorities(&[1.0])];
        let create = vk::DeviceCreateInfo::default().queue_create_infos(&queues).enabled_extension_names(&extensions).push_next(&mut features);
        // SAFETY: `create` and what it points to outlive the call; the features are those that the driver reported.
        let device = unsafe { instance.create_device(physical, &create, None) }.map_err(|error| failed("the device does not open", &error))?;
        let executables = khr::pipeline_executable_properties::Device::new(&instance, &device);
        Ok(Self { device, executables, name, _instance: instance, _entry: entry })
    }

    /// Compiles `spirv`. What it makes on the way stays until the process ends.
    pub(crate) fn compile(&self, spirv: &Spirv) -> Result<Compiled> {
        let failed = |error: vk::Result| format!("{}: {error}", spirv.entry_point);
        let layout = self.layout(spirv).map_err(failed)?;
        // SAFETY: naga wrote these words, for the features that `open` asked for.
        let module = unsafe { self.device.create_shader_module(&vk::ShaderModuleCreateInfo::default().code(&spirv.words), None) }.map_err(failed)?;
        let entry_point = CString::new(spirv.entry_point).map_err(|error| error.to_string())?;
        let stage = vk::PipelineShaderStageCreateInfo::default().stage(vk::ShaderStageFlags::COMPUTE).module(module).name(&entry_point);
        let flags = vk::PipelineCreateFlags::CAPTURE_STATISTICS_KHR | vk::PipelineCreateFlags::CAPTURE_INTERNAL_REPRESENTATIONS_KHR;
        let create = [vk::ComputePipelineCreateInfo::default().stage(stage).layout(layout).flags(flags)];
        // SAFETY: the module, the layout and the name are alive.
        let pipelines =
            unsafe { self.device.create_compute_pipelines(vk::PipelineCache::null(), &create, None) }.map_err(|(_, error)| failed(error))?;
        self.describe(pipelines[0]).map_err(failed)
    }

    fn layout(&self, spirv: &Spirv) -> ash::prelude::VkResult<vk::PipelineLayout> {
        let mut groups = Vec::new();
        for group in 0..spirv.bindings.iter().map(|binding| binding.group + 1).max().unwrap_or(0) {
            let slots = spirv.bindings.iter().filter(|binding| binding.group == group).map(|binding| {
                // the uniforms of all dispatches are one buffer, into which each binds its own place
                let kind = if binding.uniform { vk::DescriptorType::UNIFORM_BUFFER_DYNAMIC } else { vk::DescriptorType::STORAGE_BUFFER };
                let slot = vk::DescriptorSetLayoutBinding::default().binding(binding.binding).descriptor_type(kind);
                slot.descriptor_count(1).stage_flags(vk::ShaderStageFlags::COMPUTE)
            });
            let slots: Vec<_> = slots.collect();
            // SAFETY: `slots` outlives the call.
            groups.push(unsafe { self.device.create_descriptor_set_layout(&vk::DescriptorSetLayoutCreateInfo::default().bindings(&slots), None)? });
        }
        // SAFETY: the layouts of the groups are alive.
        unsafe { self.device.create_pipeline_layout(&vk::PipelineLayoutCreateInfo::default().set_layouts(&groups), None) }
    }

    fn describe(&self, pipeline: vk::Pipeline) -> ash::prelude::VkResult<Compiled> {
        let info = vk::PipelineInfoKHR::default().pipeline(pipeline);
        // SAFETY: the pipeline is alive.
        let properties = unsafe { self.executables.get_pipeline_executable_properties(&info)? };
        // a compute pipeline is one executable
        let executable = vk::PipelineExecutableInfoKHR::default().pipeline(pipeline).executable_index(0);
        // SAFETY: the pipeline captures its statistics.
        let statistics = unsafe { self.executables.get_pipeline_executable_statistics(&executable)? };
        let statistics = statistics.iter().filter(|statistic| statistic.format == vk::PipelineExecutableStatisticFormatKHR::UINT64);
        Ok(Compiled {
            subgroup_size: properties.first().map_or(0, |executable| executable.subgroup_size),
            // SAFETY: `format` says which member of the union is set.
            statistics: statistics.map(|statistic| (text(&statistic.name), unsafe { statistic.value.u64 })).collect(),
            disassembly: self.disassembly(&executable)?,
        })
    }

    fn disassembly(&self, executable: &vk::PipelineExecutableInfoKHR<'_>) -> ash::prelude::VkResult<String> {
        let get = self.executables.fp().get_pipeline_executable_internal_representations_khr;
        let mut count = 0;
        // SAFETY: a null pointer asks for the count alone.
        unsafe { get(self.device.handle(), executable, &mut count, std::ptr::null_mut()) }.result()?;
        let mut found = vec![vk::PipelineExecutableInternalRepresentationKHR::default(); count as usize];
        // SAFETY: `found` has `count` elements; without room for texts the driver writes their sizes.
        unsafe { get(self.device.handle(), executable, &mut count, found.as_mut_ptr()) }.result()?;
        let mut texts: Vec<Vec<u8>> = found.iter().map(|representation| vec![0; representation.data_size]).collect();
        for (representation, text) in found.iter_mut().zip(&mut texts) {
            representation.p_data = text.as_mut_ptr().cast();
        }
        // SAFETY: every text has the size that the driver asked for.
        unsafe { get(self.device.handle(), executable, &mut count, found.as_mut_ptr()) }.result()?;
        Ok(texts.last().map(|text| String::from_utf8_lossy(text).trim_end_matches('\0').to_owned()).unwrap_or_default())
    }
}

impl Compiled {
    /// The statistic that the driver calls `name`.
    pub(crate) fn statistic(&self, name: &str) -> Result<u64> {
        let found = self.statistics.iter().find(|(known, _)| known == name).map(|(_, value)| *value);
        found.ok_or_else(|| {
            let known: Vec<&str> = self.statistics.iter().map(|(name, _)| name.as_str()).collect();
            format!("the driver has no statistic `{name}`, but: {}", known.join(", "))
        })
    }
}

/// The text of an array that ends with its first zero.
fn text(array: &[std::ffi::c_char]) -> String {
    let bytes: Vec<u8> = array.iter().map(|&byte| byte.cast_unsigned()).collect();
    CStr::from_bytes_until_nul(&bytes).map(|text| text.to_string_lossy().into_owned()).unwrap_or_default()
}
