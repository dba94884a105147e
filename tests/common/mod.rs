//! What the test programs share: the devices to test, and the cases.
#![allow(dead_code, unreachable_pub, reason = "every test program is a crate of its own and uses a part of it")]

pub mod call;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use cellgate::compare::Tolerance;
use cellgate::gpu::form::{Choice, ProductForm, RowForm, Schedule};
use cellgate::{DeviceChoice, DeviceRequest, Engine, GraphicsBackend, Inputs, Network, Options, ScheduleName, Tensor, Tuning};
use libtest_mimic::{Failed, Trial};

/// What golden cases are held to: their judges compute in float64 but some agree with a float32 engine only within 2e-5.
pub const GOLDEN: Tolerance = Tolerance { atol: 2e-5, rtol: 2e-5 };

/// Options under which nothing depends on what was measured on this machine, and the user's records are left alone.
pub fn by_model() -> Options {
    Options { tuning: Tuning::Model, ..Options::default() }
}

/// A device to run every case on.
#[derive(Clone)]
pub struct TestDevice {
    /// part of every trial's name
    pub name: String,
    /// absent where no adapter was found
    pub engine: Option<Engine>,
    /// of every session of its trials
    pub options: Options,
}

impl TestDevice {
    /// A device of the host.
    pub fn host(name: &str, choice: DeviceChoice) -> Self {
        Self { name: name.to_owned(), engine: Some(Engine::new(choice).expect("the host's devices are there")), options: by_model() }
    }
}

/// Held by the one trial that may use OpenGL.
static ALONE: Mutex<()> = Mutex::new(());

thread_local! {
    /// Options of the trial that runs on this thread.
    static OPTIONS: RefCell<Options> = RefCell::new(by_model());
}

/// Options of the trial that runs on this thread, as far as they suit the network on the engine.
pub fn options(engine: &Engine, network: &Network) -> Options {
    let options = OPTIONS.with_borrow(Clone::clone);
    if engine.check(network, &options).is_ok() { options } else { Options { schedule: None, choice: None, ..options } }
}

/// Whether a GPU must be tested: then nothing about it may be ignored.
pub fn gpu_required() -> bool {
    is_set("CELLGATE_REQUIRE_GPU")
}

fn is_set(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|value| value != "0" && !value.is_empty())
}

/// The host's devices and every adapter, through every API that reaches it. Without an adapter there is one device that cannot run.
pub fn devices() -> Vec<TestDevice> {
    let mut devices = vec![TestDevice::host("reference", DeviceChoice::Reference), TestDevice::host("cpu", DeviceChoice::Cpu)];
    devices.extend(gpus());
    devices
}

/// Whether GPUs are opened with no more than WebGPU's least limits.
const LEAST_LIMITS: &str = "CELLGATE_LEAST_LIMITS";

/// Every adapter, through every API that reaches it; where there is none, one device that cannot run. `CELLGATE_LEAST_LIMITS` opens them all with the
/// limits of WebGPU's least device.
pub fn gpus() -> Vec<TestDevice> {
    gpus_with(is_set(LEAST_LIMITS))
}

/// The first GPU once more, with the limits that every WebGPU device has.
pub fn least_gpu() -> Option<TestDevice> {
    // where all of them have those, it is there already
    if is_set(LEAST_LIMITS) { None } else { gpus_with(true).into_iter().next().filter(|gpu| gpu.engine.is_some()) }
}

fn gpus_with(least_limits: bool) -> Vec<TestDevice> {
    use GraphicsBackend::{Dx12, Gl, Metal, Vulkan};
    let mut gpus: Vec<TestDevice> = [Vulkan, Metal, Dx12, Gl]
        .into_iter()
        .filter_map(|backend| {
            let engine = Engine::new(DeviceRequest { least_limits, ..request(backend) }).ok()?;
            let name = engine.describe().device.name.split([' ', '/']).next().unwrap_or("gpu").to_lowercase();
            let limits = if least_limits { "/least-limits" } else { "" };
            Some(TestDevice { name: format!("gpu/{name}-{backend}{limits}"), engine: Some(engine), options: by_model() })
        })
        .collect();
    if gpus.is_empty() {
        gpus.push(TestDevice { name: "gpu/none".to_owned(), engine: None, options: by_model() });
    }
    gpus
}

/// A request for the GPU, be it a software adapter, that `backend` reaches.
pub fn request(backend: GraphicsBackend) -> DeviceRequest {
    DeviceRequest { choice: DeviceChoice::Gpu, backend: Some(backend), allow_software: true, ..DeviceRequest::default() }
}

/// The GPU of `engine` opened once more, so that nothing is counted there but what one trial does.
pub fn opened_anew(engine: &Engine) -> Result<Engine, Failed> {
    let backend = engine.describe().device.backend.ok_or("the host has no device to open")?;
    Ok(Engine::new(DeviceRequest { least_limits: is_set(LEAST_LIMITS), ..request(backend) })?)
}

/// The first GPU once more for every schedule: what suits it runs to it, and nothing else does.
pub fn gpus_by_schedule() -> Vec<TestDevice> {
    let first = gpus().into_iter().next().filter(|gpu| gpu.engine.is_some());
    let to = |gpu: &TestDevice, name: ScheduleName| TestDevice {
        name: format!("{}/{name}", gpu.name),
        options: Options { schedule: Some(name), ..by_model() },
        ..gpu.clone()
    };
    first.iter().flat_map(|gpu| ScheduleName::ALL.map(|name| to(gpu, name))).collect()
}

/// The first GPU once more for every form of a product that candidates of the cases at hand may never be the cheapest of.
pub fn gpus_by_form() -> Vec<TestDevice> {
    let first = gpus().into_iter().next().filter(|gpu| gpu.engine.is_some());
    let rows = |k_lanes, subgroups| ProductForm::Rows(RowForm { workgroup_size: 64, rows: 4, k_lanes, subgroups });
    let forms = [("lanes", rows(16, false)), ("subgroups", rows(16, true)), ("subgroups-of-two", rows(2, true))];
    let to = |gpu: &TestDevice, (name, form): (&str, ProductForm)| TestDevice {
        name: format!("{}/{name}", gpu.name),
        options: Options { choice: Some(Choice { schedule: Schedule::PerStep(form), input: form }), ..by_model() },
        ..gpu.clone()
    };
    first.iter().flat_map(|gpu| forms.map(|form| to(gpu, form))).collect()
}

impl TestDevice {
    /// Whether its trials have a schedule or a form of their own, which may not suit every network.
    pub fn is_choosy(&self) -> bool {
        self.options.schedule.is_some() || self.options.choice.is_some()
    }
}

/// A trial on a device for a network; it is ignored, visibly, where the device's schedule or form does not suit the network.
pub fn suited_trial(
    device: &TestDevice,
    name: &str,
    network: Option<&Network>,
    run: impl FnOnce(&Engine) -> Result<(), Failed> + Send + 'static,
) -> Trial {
    let refusal = match (&device.engine, network, device.is_choosy()) {
        (Some(_), Some(network), true) if network.lstms().any(|(_, lstm)| lstm.is_none()) => Some("its weights come with the call".to_owned()),
        (Some(engine), Some(network), true) => engine.check(network, &device.options).err().map(|error| error.to_string()),
        _ => None,
    };
    if let Some(refusal) = refusal {
        return Trial::test(format!("{}/{name} ({refusal})", device.name), || Ok(())).with_ignored_flag(true);
    }
    trial(device, name, run)
}

/// A trial on a device; without an engine it is ignored, or, where a GPU is required, fails.
pub fn trial(device: &TestDevice, name: &str, run: impl FnOnce(&Engine) -> Result<(), Failed> + Send + 'static) -> Trial {
    let full = format!("{}/{name}", device.name);
    match device.engine.clone() {
        Some(engine) => {
            let options = device.options.clone();
            Trial::test(full, move || {
                // wgpu's OpenGL has one context for all threads, and panics where another one compiles a kernel for a second
                let is_gl = engine.describe().device.backend == Some(GraphicsBackend::Gl);
                let _alone = is_gl.then(|| ALONE.lock().unwrap_or_else(PoisonError::into_inner));
                OPTIONS.replace(options);
                run(&engine)
            })
        }
        None if gpu_required() => Trial::test(full, || Err("no adapter found, and CELLGATE_REQUIRE_GPU is set".into())),
        None => Trial::test(format!("{full} (no adapter found)"), || Ok(())).with_ignored_flag(true),
    }
}

/// Runs the trials and ends the program; zero trials are a failure.
pub fn conclude(trials: Vec<Trial>) -> ! {
    assert!(!trials.is_empty(), "there is nothing to test");
    libtest_mimic::run(&libtest_mimic::Arguments::from_args(), trials).exit()
}

/// A golden case: a folder with a model, its inputs and its outputs.
#[derive(Clone)]
pub struct Case {
    pub name: String,
    pub model: PathBuf,
    pub inputs: Vec<(String, PathBuf)>,
    pub outputs: Vec<(String, PathBuf)>,
}

/// The project's own cases, and those in the folders that the environment variable `CELLGATE_GOLDEN` lists, searched two levels deep.
pub fn golden_cases() -> Vec<Case> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let others = std::env::var_os("CELLGATE_GOLDEN").unwrap_or_default();
    let mut cases = Vec::new();
    for root in std::iter::once(own).chain(std::env::split_paths(&others).filter(|path| !path.as_os_str().is_empty())) {
        collect_cases(&root, 2, &mut cases);
    }
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    cases
}

fn collect_cases(folder: &Path, depth: usize, cases: &mut Vec<Case>) {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for path in entries.map(|entry| entry.expect("a folder can be listed").path()).filter(|path| path.is_dir()) {
        match Case::open(&path) {
            Some(case) => cases.push(case),
            None if depth > 1 => collect_cases(&path, depth - 1, cases),
            None => {}
        }
    }
}

impl Case {
    /// The case in `folder`, if there is a model in it.
    pub fn open(folder: &Path) -> Option<Self> {
        let model = ["model.safetensors", "model.onnx"].map(|name| folder.join(name)).into_iter().find(|path| path.is_file())?;
        let mut case = Self { name: folder.file_name()?.to_string_lossy().into_owned(), model, inputs: Vec::new(), outputs: Vec::new() };
        for path in std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()) {
            let name = path.file_name()?.to_string_lossy().into_owned();
            let middle = |prefix: &str| Some(name.strip_prefix(prefix)?.strip_suffix(".npy")?.to_owned());
            if let Some(input) = middle("in.") {
                case.inputs.push((input, path));
            } else if let Some(output) = middle("out.") {
                case.outputs.push((output, path));
            }
        }
        case.inputs.sort();
        case.outputs.sort();
        Some(case)
    }

    /// The input tensors, read.
    pub fn read_inputs(&self) -> Result<Vec<(String, Tensor)>, Failed> {
        self.inputs.iter().map(|(name, path)| Ok((name.clone(), cellgate::formats::npy::read(path)?))).collect()
    }
}

/// Inputs made of tensors that somebody else owns.
pub fn inputs(tensors: &[(String, Tensor)]) -> Inputs<'_> {
    let mut inputs = Inputs::new();
    for (name, tensor) in tensors {
        inputs.insert(name.clone(), tensor.view());
    }
    inputs
}
