//! What the host's backends cannot provoke by themselves, and what no adapter at hand does.

mod faults;
mod load;
mod memory;
mod panels;
mod recover;
mod room;
mod shortage;

use std::sync::Arc;
use std::time::Duration;

use ndarray::{Array2, Array3};

use crate::device::DeviceKind;
use crate::engine::dense::DenseRunner;
use crate::engine::recover::Place;
use crate::engine::runner::{NodeState, Runner};
use crate::engine::{Backend, Selection};
use crate::gpu::{self, Adapter, DenseInput, DeviceCall, DeviceTensor, GpuDevice, Opening, Wait};
use crate::network::LstmResults;
use crate::{DeviceChoice, Engine, ErrorKind, Inputs, Lstm, LstmConfig, Network, Options, Result, Session};

/// How devices are opened here.
const OPENING: Opening = Opening { checked_shaders: true, least_limits: false, timeout: Duration::from_secs(60) };

/// A stack of one layer, its weights all the same.
fn network(input_size: usize, hidden_size: usize) -> Result<Network> {
    let cell = crate::CellWeights {
        weight_ih: Array2::from_elem((4 * hidden_size, input_size), 0.1),
        weight_hh: Array2::from_elem((4 * hidden_size, hidden_size), 0.1),
        bias_ih: None,
        bias_hh: None,
        weight_hr: None,
        peepholes: None,
        layer_norm: None,
    };
    let lstm = Lstm::new(LstmConfig { bias: false, ..LstmConfig::new(input_size, hidden_size) }, vec![cell])?;
    Ok(Network::from_lstm(lstm, false))
}

fn session(input_size: usize, hidden_size: usize) -> Result<Session> {
    Engine::new(DeviceChoice::Cpu)?.session(&network(input_size, hidden_size)?, Options::default())
}

/// The first adapter that can be used; `None`, said on stderr, where there is none.
fn an_adapter() -> Option<Adapter> {
    let adapter = pollster::block_on(gpu::adapters(None)).into_iter().find(|adapter| adapter.info.unusable.is_none());
    if adapter.is_none() {
        assert!(std::env::var_os("CELLGATE_REQUIRE_GPU").is_none(), "no adapter found, and CELLGATE_REQUIRE_GPU is set");
        eprintln!("ignored: no adapter found");
    }
    adapter
}

/// Whether there is time for everything.
fn is_long() -> bool {
    std::env::var_os("CELLGATE_LONG").is_some_and(|value| value != "0" && !value.is_empty())
}

/// What a software adapter lists, its driver has: a trial that refuses it is wrong itself.
#[test]
fn trials_pass_on_software_adapters() -> Result<()> {
    let Some(adapter) = an_adapter().filter(|adapter| adapter.info.is_software()) else { return Ok(()) };
    let device = pollster::block_on(GpuDevice::open(&adapter, OPENING))?;
    assert!(device.info().features.iter().all(|feature| !feature.contains("(not used: ")), "{:?}", device.info().features);
    Ok(())
}

/// The text of the error of kind `StateLost` that `result` must be.
fn lost_error<T>(result: Result<T>) -> String {
    let error = result.err().expect("an error");
    assert_eq!(error.kind(), ErrorKind::StateLost, "{error}");
    error.to_string()
}

#[test]
fn a_state_that_a_call_left_unfinished_is_refused_until_it_is_written() -> Result<()> {
    let mut session = session(3, 5)?;
    let x = Array3::<f32>::ones((2, 1, 3));
    let inputs = Inputs::new().with("x", x.view());
    let mut state = session.state(1)?;
    session.run_with_state(&inputs, &mut state)?;
    assert!(!state.torn);
    let values = session.read_state(&state)?;
    state.torn = true;
    assert_eq!(lost_error(session.run_with_state(&inputs, &mut state)), "state: the last call on it did not finish; write it anew");
    assert_eq!(lost_error(session.read_state(&state)), "state: the last call on it did not finish; write it anew");
    session.write_state(&mut state, &[])?;
    assert!(state.torn, "nothing was written");
    session.write_state(&mut state, &values)?;
    assert_eq!(session.read_state(&state)?, values);
    session.run_with_state(&inputs, &mut state)?;
    Ok(())
}

#[test]
fn weights_of_a_call_that_hold_nan_are_kept_for_the_next() -> Result<()> {
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/onnx-runtime-weights");
    let mut session = Engine::new(DeviceChoice::Cpu)?.session(&Network::open(golden.join("model.onnx"))?, Options::default())?;
    let read = |name: &str| {
        let tensor = crate::formats::npy::read(&golden.join(format!("in.{name}.npy")))?;
        Ok::<_, crate::Error>(tensor.view().float32(name)?.into_owned())
    };
    let mut tensors = session.network().inputs().iter().map(|port| Ok((port.name.clone(), read(&port.name)?))).collect::<Result<Vec<_>>>()?;
    let (_, weights) = tensors.iter_mut().find(|(name, _)| name == "R").expect("recurrent weights");
    weights[[0, 0, 0]] = f32::NAN;
    let packed = |session: &Session| session.nodes[0].runner.as_ref().map(|runner| std::ptr::from_ref(runner.lstm())).expect("it ran");
    let mut seen = Vec::new();
    for last in [1.0, 1.0, 0.0, -0.0] {
        let (_, weights) = tensors.iter_mut().find(|(name, _)| name == "R").expect("recurrent weights");
        weights[[0, 1, 0]] = last;
        let mut inputs = Inputs::new();
        tensors.iter().for_each(|(name, tensor)| inputs.insert(name, tensor.view()));
        session.run(&inputs)?;
        seen.push(packed(&session));
    }
    assert_eq!(seen[0], seen[1], "the same weights were packed twice");
    assert!(seen[1] != seen[2] && seen[2] != seen[3], "other weights were not packed");
    Ok(())
}

#[test]
fn sequences_that_a_step_left_unfinished_are_lost_and_others_are_not() -> Result<()> {
    let mut session = session(3, 5)?;
    let mut stream = session.stream(3)?;
    let x = Array2::<f32>::ones((2, 3));
    let (old, gone) = (stream.join()?, stream.join()?);
    let expected = stream.step(&[(old, x.view())])?;
    assert_eq!(stream.lost, 0);
    stream.leave(gone)?;
    // as a step leaves it whose future is dropped
    stream.lost = gone.turn();
    for error in [lost_error(stream.step(&[(old, x.view())])), lost_error(stream.read(old))] {
        assert!(error.contains("slot 0 lost its state"), "{error}");
    }
    let new = stream.join()?;
    assert_eq!(stream.step(&[(new, x.view())])?, expected);
    assert!(lost_error(stream.step_all(Array3::ones((1, 3, 3)).view())).contains("slot 0 lost its state"));
    assert!(stream.step(&[(old, x.view())]).is_err(), "a step of somebody else does not bring the state back");
    stream.leave(old)?;
    let heir = stream.join()?;
    assert_eq!(stream.step(&[(heir, x.view())])?, expected);
    stream.step_all(Array3::ones((1, 3, 3)).view())?;
    Ok(())
}

/// An engine of both sides whose GPU is expected to be faster than any CPU.
fn with_a_fast_gpu(adapter: &Adapter) -> Result<(Engine, Arc<GpuDevice>)> {
    let mut device = pollster::block_on(GpuDevice::open_with(adapter, OPENING, &[]))?;
    let model = &mut device.profile.model;
    (model.units, model.transfer_bytes, model.submit_seconds, model.dispatch_seconds) = (1e9, 1e18, 1e-12, 1e-12);
    (model.load_seconds, model.read_seconds, model.barrier_seconds, model.cell_seconds) = (1e-15, 1e-15, 1e-15, 1e-15);
    let selection = Selection { device: device.info().clone(), reason: "for a test".to_owned() };
    let device = Arc::new(device);
    let place = Place::new(Backend::Either(Arc::clone(&device)));
    Ok((Engine { selection: Arc::new(selection), place, lacks_a_gpu: false }, device))
}

/// An engine of both sides whose GPU binds at most so many bytes; `None`, said on stderr, where there is no adapter.
fn with_a_small_gpu(max_binding_bytes: u64) -> Result<Option<Engine>> {
    let Some(adapter) = an_adapter() else { return Ok(None) };
    let mut device = pollster::block_on(GpuDevice::open(&adapter, OPENING))?;
    device.profile.max_binding_bytes = max_binding_bytes;
    let selection = Selection { device: device.info().clone(), reason: "for a test".to_owned() };
    Ok(Some(Engine { selection: Arc::new(selection), place: Place::new(Backend::Either(Arc::new(device))), lacks_a_gpu: false }))
}

#[test]
fn what_a_gpu_has_no_room_for_runs_on_the_cpu_and_that_is_said() -> Result<()> {
    let Some(engine) = with_a_small_gpu(1024)? else { return Ok(()) };
    let options = || Options { tuning: crate::Tuning::Model, ..Options::default() };
    let on_cpu = session(16, 32)?;
    let x = Array3::from_shape_fn((3, 2, 16), |(step, row, k)| (step + row + k) as f32 / 16.0);
    let inputs = Inputs::new().with("x", x.view());
    let mut session = engine.session(on_cpu.network(), options())?;
    let explained = session.explain(2, 3)?.lstms.swap_remove(0).sides.expect("both sides are explained");
    assert!(explained.crossover.is_none() && explained.gpu.unable.is_some_and(|why| why.contains("limit max_storage_buffer_binding_size")));
    let mut on_cpu = on_cpu;
    assert_eq!(session.run(&inputs)?, on_cpu.run(&inputs)?);
    let used = &session.schedules()[0];
    assert_eq!((used.device, used.seq_len), (DeviceKind::Cpu, Some(3)));
    assert!(used.why.starts_with("CPU: the GPU cannot: limit max_storage_buffer_binding_size: need "), "{}", used.why);
    assert!(session.tune(2, 3)?.lstms.is_empty(), "there is nothing to choose from");
    // who names a schedule has the GPU alone, and its error
    let named = Options { schedule: Some(crate::ScheduleName::PerStep), ..options() };
    assert_eq!(engine.session(on_cpu.network(), named).err().map(|error| error.kind()), Some(ErrorKind::Limit));
    // a layer behind an LSTM of the GPU
    let linear = crate::Linear::new(Array2::from_elem((64, 64), 0.5), None)?;
    let stage = Arc::new(crate::DenseStage::Linear(linear, crate::RowFunction::None));
    let mut layer = pollster::block_on(DenseRunner::new(&engine.backend(), stage, &options()))?;
    let (on_gpu, why) = pollster::block_on(layer.prepare(true))?;
    assert!(!on_gpu && why.is_some_and(|why| why.contains("need 1792 bytes")), "{why:?}");
    assert_eq!(pollster::block_on(layer.prepare(false))?, (false, None));
    let mut y = ndarray::ArrayD::zeros(ndarray::IxDyn(&[2, 64]));
    pollster::block_on(layer.run(DenseInput::Host(Array2::ones((2, 64)).into_dyn().view()), Some(y.view_mut()), Wait::Block))?;
    assert!(y.iter().all(|value| *value == 32.0));
    Ok(())
}

/// Compiles where the futures of stages can go from thread to thread.
#[test]
fn futures_of_stages_are_send() {
    fn send<T: Send>(_: T) {}
    fn stages(runner: &mut DenseRunner, x: DenseInput<'_>, y: ndarray::ArrayViewMutD<'_, f32>, tensor: &DeviceTensor) {
        send(runner.run(x, Some(y), Wait::Async));
        send(tensor.read(Wait::Async));
    }
    fn stacks(runner: &mut Runner, call: &DeviceCall<'_>, state: &mut NodeState) {
        send(runner.run_on_device(call, None, state, LstmResults::default(), Wait::Async));
    }
    let _ = (stages, stacks);
}
