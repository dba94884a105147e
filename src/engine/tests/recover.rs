//! Going on after a device failed.

use std::sync::Arc;

use ndarray::{Array2, Array3};

use crate::device::DeviceKind;
use crate::engine::recover::Place;
use crate::engine::tests::faults::{Service, options, x};
use crate::engine::tests::{OPENING, an_adapter, lost_error, network, with_a_fast_gpu};
use crate::engine::{Backend, Selection};
use crate::gpu::GpuDevice;
use crate::gpu::inject::Fault;
use crate::{Chain, ChainInput, ChainStage, DenseStage, Engine, ErrorKind, Inputs, Linear, Network, Options, Result, RowFunction};

/// Faults that end a device.
const ENDS: [Fault; 5] = [Fault::Destroyed, Fault::DestroyedAndPolled, Fault::Told, Fault::Hang, Fault::Panic];

#[test]
fn who_recovers_goes_on_with_the_same_bits() -> Result<()> {
    let Some(adapter) = an_adapter() else { return Ok(()) };
    for fault in ENDS {
        let mut service = Service::new(&adapter)?;
        let x = x();
        let inputs = Inputs::new().with("x", x.view());
        let (ran, stepped) = (service.session.run(&inputs)?, service.step()?);
        let carried = service.session.run_with_state(&inputs, &mut service.state)?;
        let kept = service.session.read_state(&service.state)?;
        let carried_on = service.session.run_with_state(&inputs, &mut service.state)?;
        let clone = service.engine.clone();
        assert!(!clone.recover()?, "a device that is well is left alone");

        service.arm(0, fault);
        let error = service.step().expect_err("the device failed");
        assert!(matches!(error.kind(), ErrorKind::DeviceLost | ErrorKind::Timeout), "{fault:?}: {error}");
        for _ in 0..2 {
            assert_eq!(service.session.run(&inputs).err().map(|error| error.kind()), Some(ErrorKind::DeviceLost), "{fault:?}: it stays lost");
        }
        assert!(clone.recover()?, "{fault:?}");
        assert!(!service.engine.recover()?, "{fault:?}: clones share the device");

        // calls without a state go on at once, those with one need it anew
        assert_eq!(service.session.run(&inputs)?, ran, "{fault:?}");
        for text in [lost_error(service.session.run_with_state(&inputs, &mut service.state)), lost_error(service.session.read_state(&service.state))]
        {
            assert_eq!(text, "state: it went with a device that was lost; write it anew");
        }
        service.session.write_state(&mut service.state, &kept)?;
        assert_eq!(service.session.run_with_state(&inputs, &mut service.state)?, carried_on, "{fault:?}");
        let mut fresh = service.session.state(2)?;
        assert_eq!(service.session.run_with_state(&inputs, &mut fresh)?, carried, "{fault:?}");

        // a stream says whom it lost, and takes others
        assert!(service.step().is_err(), "{fault:?}: a stream does not go on by itself");
        assert_eq!(service.stream.recover()?, service.slots, "{fault:?}");
        assert!(lost_error(service.step()).contains("slot 0 lost its state"));
        let lost: Vec<_> = service.stream.lost().collect();
        for slot in lost {
            service.stream.leave(slot)?;
        }
        service.slots = vec![service.stream.join()?, service.stream.join()?];
        assert_eq!(service.stream.lost().count(), 0);
        assert_eq!(service.step()?, stepped, "{fault:?}");
    }
    Ok(())
}

#[test]
fn layers_around_the_lstms_move_as_well() -> Result<()> {
    let Some(adapter) = an_adapter() else { return Ok(()) };
    let service = Service::new(&adapter)?;
    let network = Network::open(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/char-lm.safetensors"))?;
    let mut session = service.engine.session(&network, options())?;
    let x = Array3::<f32>::from_shape_fn((3, 2, 96), |(step, row, k)| f32::from(u8::from(k == 7 * step + row)));
    let inputs = Inputs::new().with("x", x.view());
    let expected = session.run(&inputs)?;
    service.device().device.destroy();
    assert!(session.run(&inputs).is_err());
    assert!(service.engine.recover()?);
    assert_eq!(session.run(&inputs)?, expected);
    Ok(())
}

#[test]
fn only_one_of_many_opens_the_device_anew() -> Result<()> {
    let Some(adapter) = an_adapter() else { return Ok(()) };
    let service = Service::new(&adapter)?;
    service.device().device.destroy();
    let recover = || service.engine.clone().recover();
    let recovered = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(recover)).collect();
        threads.into_iter().map(|thread| thread.join().expect("it does not panic")).collect::<Result<Vec<bool>>>()
    })?;
    assert_eq!(recovered.iter().filter(|opened| **opened).count(), 1);
    Ok(())
}

#[test]
fn a_chain_moves_as_well() -> Result<()> {
    let Some(adapter) = an_adapter() else { return Ok(()) };
    let service = Service::new(&adapter)?;
    let stack = service.session.network().lstms().filter_map(|(_, lstm)| lstm).next().cloned().expect("it has one");
    let linear = Linear::new(Array2::from_elem((64, 5), 0.25), None)?;
    let stages = [ChainStage::Lstm(Arc::new(stack)), ChainStage::Dense(DenseStage::Linear(linear, RowFunction::Softmax))];
    let mut chain = Chain::new(&service.engine, &stages, &options())?;
    // not the one that a new chain would choose
    let products = chain.products(1, 6)?;
    chain.set_product(1, *products.last().expect("there is one"));
    let x = x().into_dyn();
    let mut run = || chain.run(ChainInput::Values(x.view()), None, false);
    let expected = run()?;
    service.device().device.destroy();
    assert_eq!(run().err().map(|error| error.kind()), Some(ErrorKind::DeviceLost));
    assert!(service.engine.recover()?);
    assert_eq!(run()?, expected);
    Ok(())
}

#[test]
fn an_engine_of_both_sides_goes_on_with_the_cpu_where_its_adapter_is_gone() -> Result<()> {
    let Some(mut adapter) = an_adapter() else { return Ok(()) };
    adapter.info.name = "a card that is pulled out".to_owned();
    let open = || {
        let device = Arc::new(pollster::block_on(GpuDevice::open_with(&adapter, OPENING, &[]))?);
        let selection = Selection { device: device.info().clone(), reason: "for a test".to_owned() };
        let backend = Backend::Gpu(Arc::clone(&device));
        Ok::<_, crate::Error>((Engine { selection: Arc::new(selection), place: Place::new(backend), lacks_a_gpu: false }, device))
    };
    let (network, x) = (network(4, 5)?, x());
    let (inputs, chunk) = (Inputs::new().with("x", x.view()), Array2::from_elem((2, 4), 0.5));
    let mut on_cpu = Engine::new(crate::DeviceChoice::Cpu)?.session(&network, options())?;
    let expected = on_cpu.run(&inputs)?;

    let (engine, device) = with_a_fast_gpu(&adapter)?;
    // the options leave this one to the GPU
    let named = Options { schedule: Some(crate::ScheduleName::PerStep), ..options() };
    let mut on_gpu = engine.session(&network, named)?;
    let mut state = on_gpu.state(2)?;
    let mut session = engine.session(&network, options())?;
    let mut stream = engine.session(&network, options())?.into_stream(2)?;
    let slot = stream.join()?;
    on_gpu.run_with_state(&inputs, &mut state)?;
    device.device.destroy();
    assert!(engine.recover()?, "it has recovered to the CPU");
    assert!(!engine.clone().recover()?, "there is no GPU to recover");
    let said = engine.describe();
    assert!(said.device.kind == DeviceKind::Cpu && said.reason.contains("the GPU was lost; adapter a card that is pulled out"), "{said}");
    assert_eq!(session.run(&inputs)?, expected);
    let used = session.schedules().last().expect("it ran");
    assert!(used.device == DeviceKind::Cpu && used.why.contains("a card that is pulled out"), "{}", used.why);
    assert!(session.explain(2, 3)?.lstms[0].sides.as_ref().is_some_and(|sides| sides.why.contains("pulled out")));
    let refused = on_gpu.run(&inputs).err().map(|error| (error.kind(), error.to_string())).expect("there is no GPU");
    assert!(refused.0 == ErrorKind::NoAdapter && refused.1.contains("the options name what a GPU is to run"), "{}", refused.1);
    assert_eq!(engine.session(&network, options())?.run(&inputs)?, expected, "a new session");
    // a stream that was on the GPU
    assert_eq!(stream.recover()?, [slot]);
    stream.leave(slot)?;
    let slot = stream.join()?;
    let mut cpu_stream = on_cpu.stream(2)?;
    let cpu_slot = cpu_stream.join()?;
    assert_eq!(stream.step(&[(slot, chunk.view())])?, cpu_stream.step(&[(cpu_slot, chunk.view())])?);

    let (engine, device) = open()?;
    device.device.destroy();
    let error = engine.recover().expect_err("a GPU is what was asked for");
    assert!(error.kind() == ErrorKind::NoAdapter && error.to_string().contains("expected it where it was, found it gone"), "{error}");
    Ok(())
}

#[test]
fn states_on_the_cpu_of_an_engine_of_both_survive() -> Result<()> {
    let Some(adapter) = an_adapter() else { return Ok(()) };
    let device = Arc::new(pollster::block_on(GpuDevice::open_with(&adapter, OPENING, &[]))?);
    let selection = Selection { device: device.info().clone(), reason: "for a test".to_owned() };
    let place = Place::new(Backend::Either(Arc::clone(&device)));
    let engine = Engine { selection: Arc::new(selection), place, lacks_a_gpu: false };
    let chunk = Array2::from_elem((2, 4), 0.5);
    // a few rows of a small stack are the CPU's, whatever the GPU
    let step = |fails: bool| {
        let mut stream = engine.session(&network(4, 5)?, options())?.into_stream(2)?;
        let slot = stream.join()?;
        stream.step(&[(slot, chunk.view())])?;
        if fails {
            device.device.destroy();
            assert!(stream.recover()?.is_empty());
            assert!(!engine.recover()?, "the stream has recovered the engine");
        }
        stream.step(&[(slot, chunk.view())])
    };
    let expected = step(false)?;
    assert_eq!(step(true)?, expected);
    Ok(())
}
