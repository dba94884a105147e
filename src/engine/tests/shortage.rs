//! An engine of both sides whose GPU has no memory for a while.

use ndarray::{Array2, Array3};

use crate::device::DeviceKind;
use crate::engine::tests::faults::{options, x};
use crate::engine::tests::{an_adapter, network, with_a_fast_gpu};
use crate::gpu::inject::Fault;
use crate::network::DenseStage;
use crate::{Inputs, Network, Result, RowFunction, Session, Stage};

/// Where the last shape of call ran that came up, and why.
fn last(session: &Session) -> (DeviceKind, &str) {
    session.schedules().last().map(|used| (used.device, &used.why[..])).expect("a call ran")
}

#[test]
fn a_stack_comes_back_to_the_gpu_when_memory_was_freed() -> Result<()> {
    let Some(adapter) = an_adapter() else { return Ok(()) };
    let (engine, device) = with_a_fast_gpu(&adapter)?;
    let (stack, x) = (network(4, 5)?, x());
    let inputs = Inputs::new().with("x", x.view());
    // takes more than the stack's weights
    let occupant = || {
        let mut session = engine.session(&network(4, 64)?, options())?;
        session.run(&inputs)?;
        Ok::<_, crate::Error>(session)
    };
    let mut undisturbed = engine.session(&stack, options())?;
    let on_gpu = undisturbed.run(&inputs)?;
    assert_eq!(last(&undisturbed).0, DeviceKind::Gpu, "{}", last(&undisturbed).1);
    let mut session = engine.session(&stack, options())?;
    let mut occupants = vec![occupant()?, occupant()?];
    for _ in 0..2 {
        device.health.inject.arm(0, Fault::Memory);
        let on_cpu = session.run(&inputs)?;
        let (side, why) = last(&session);
        assert!(device.health.inject.has_happened() && side == DeviceKind::Cpu, "{why}");
        for part in ["CPU: the GPU cannot: ", "buffer `weights 0` of ", "; it is asked again when so much has been freed, or after 60 s"] {
            assert!(why.contains(part), "`{part}` in: {why}");
        }
        let made = engine.usage().map(|usage| usage.buffers_made);
        assert_eq!(session.run(&inputs)?, on_cpu, "the CPU goes on");
        session.run(&Inputs::new().with("x", Array3::<f32>::zeros((1, 1, 4)).view()))?;
        assert_eq!((last(&session).0, engine.usage().map(|usage| usage.buffers_made)), (DeviceKind::Cpu, made), "nobody asks before there is more");
        // a state that is made meanwhile stays where it is
        let mut state = session.state(2)?;
        let carried = session.run_with_state(&inputs, &mut state)?;
        occupants.pop();
        // the second time the memory runs out once more
        if occupants.is_empty() {
            assert_eq!(session.run(&inputs)?, on_gpu, "there is room again");
            let used = session.schedules().iter().find(|used| used.rows == 2 && used.seq_len == Some(3)).expect("it ran");
            assert!(used.device == DeviceKind::Gpu && used.why.starts_with("GPU: "), "{}", used.why);
            assert_eq!(carried, on_cpu);
            session.run_with_state(&inputs, &mut state)?;
        }
    }
    Ok(())
}

#[test]
fn a_layer_comes_back_to_the_gpu_as_well() -> Result<()> {
    let Some(adapter) = an_adapter() else { return Ok(()) };
    let (engine, device) = with_a_fast_gpu(&adapter)?;
    let lstm = network(4, 5)?.lstms().filter_map(|(_, lstm)| lstm).next().cloned().expect("it has one");
    let linear = crate::Linear::new(Array2::from_elem((3, 5), 0.25), None)?;
    let stages = [("lstm".to_owned(), Stage::Lstm(lstm)), ("fc".to_owned(), Stage::Dense(DenseStage::Linear(linear, RowFunction::None)))];
    let (stack, x) = (Network::from_stages(stages.to_vec(), false)?, x());
    let inputs = Inputs::new().with("x", x.view());
    let occupant = engine.session(&network(4, 64)?, options()).and_then(|mut session| session.run(&inputs).map(|_| session))?;
    let mut session = engine.session(&stack, options())?;
    // how many points the stack's own call has
    let mut other = engine.session(&network(4, 5)?, options())?;
    other.run(&inputs)?;
    let mut told = false;
    for point in 0..60 {
        session = engine.session(&stack, options())?;
        device.health.inject.arm(point, Fault::Memory);
        let ran = session.run(&inputs);
        assert!(device.health.inject.has_happened());
        if ran.is_ok() && session.notes().iter().any(|note| note.starts_with("fc: runs on the CPU, as the GPU cannot: ")) {
            told = true;
            break;
        }
    }
    assert!(told, "no point is the layer's");
    let made = || engine.usage().map(|usage| usage.buffers_made);
    let before = made();
    session.run(&inputs)?;
    assert_eq!(made(), before, "nobody asks before there is more");
    drop(occupant);
    session.run(&inputs)?;
    assert!(made() > before, "the layer is on the GPU");
    Ok(())
}
