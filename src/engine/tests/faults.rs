//! Devices that fail, at every point where the host waits for one or makes something on it.

use std::future::Future;
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use ndarray::{Array2, Array3};

use crate::engine::tests::{OPENING, an_adapter, network};
use crate::gpu::inject::Fault;
use crate::gpu::{Adapter, GpuDevice, Opening};
use crate::{Chain, DeviceRequest, Engine, Error, ErrorKind, Inputs, Options, Outputs, Result, Session, Slot, State, Stream, Tuning};

/// Nothing that fails takes longer to say so.
pub(super) const SOON: Duration = Duration::from_secs(10);

/// What a service has on a device.
pub(super) struct Service {
    pub(super) engine: Engine,
    pub(super) session: Session,
    pub(super) state: State,
    pub(super) stream: Stream<'static>,
    pub(super) slots: Vec<Slot>,
    /// made by who needs one
    pub(super) chain: Option<Chain>,
}

pub(super) fn options() -> Options {
    Options { tuning: Tuning::Model, ..Options::default() }
}

pub(super) fn x() -> Array3<f32> {
    Array3::from_shape_fn((3, 2, 4), |(step, row, k)| (step + row + k) as f32 / 16.0)
}

impl Service {
    pub(super) fn new(adapter: &Adapter) -> Result<Self> {
        Self::opened(adapter, OPENING)
    }

    fn opened(adapter: &Adapter, opening: Opening) -> Result<Self> {
        let device = pollster::block_on(GpuDevice::open_with(adapter, opening, &[]))?;
        let engine = Engine::of_gpu(device, "for a test".to_owned());
        let network = network(4, 5)?;
        let mut session = engine.session(&network, options())?;
        let state = session.state(2)?;
        let mut stream = engine.session(&network, options())?.into_stream(3)?;
        let slots = vec![stream.join()?, stream.join()?];
        Ok(Self { engine, session, state, stream, slots, chain: None })
    }

    /// Has what a call lost be as it was at the start.
    pub(super) fn write_anew(&mut self) -> Result<()> {
        self.state = self.session.state(2)?;
        let lost: Vec<Slot> = self.stream.lost().collect();
        if !lost.is_empty() {
            lost.into_iter().try_for_each(|slot| self.stream.leave(slot))?;
            self.slots = vec![self.stream.join()?, self.stream.join()?];
        }
        Ok(())
    }

    pub(super) fn device(&self) -> Arc<GpuDevice> {
        Arc::clone(self.engine.backend().gpu().expect("it was made of one"))
    }

    pub(super) fn arm(&self, points: usize, fault: Fault) {
        self.device().health.inject.arm(points, fault);
    }

    pub(super) fn step(&mut self) -> Result<Vec<Array2<f32>>> {
        let chunk = Array2::from_elem((2, 4), 0.5);
        self.stream.step(&[(self.slots[0], chunk.view()), (self.slots[1], chunk.view())])
    }
}

/// A call of each kind; what it returned, in numbers.
pub(super) type Ask = fn(&mut Service) -> Result<Vec<f32>>;

fn numbers(outputs: &Outputs) -> Result<Vec<f32>> {
    Ok(outputs["y"].iter().copied().collect())
}

pub(super) const ASKS: [(&str, Ask); 12] = [
    ("run", |service| numbers(&service.session.run(&Inputs::new().with("x", x().view()))?)),
    ("run_async", |service| numbers(&pollster::block_on(service.session.run_async(&Inputs::new().with("x", x().view())))?)),
    ("run_with_state", |service| numbers(&service.session.run_with_state(&Inputs::new().with("x", x().view()), &mut service.state)?)),
    ("read_state", |service| Ok(service.session.read_state(&service.state)?[0].c.iter().copied().collect())),
    ("step", |service| Ok(service.step()?.concat_values())),
    ("step_all", |service| Ok(service.stream.step_all(Array3::from_elem((2, 3, 4), 0.25).view())?.into_iter().collect())),
    ("read", |service| Ok(service.stream.read(service.slots[0])?.h.into_iter().collect())),
    ("join", |service| {
        let slot = service.stream.join()?;
        service.stream.leave(slot)?;
        Ok(Vec::new())
    }),
    ("state", |service| service.session.state(5).map(|_| Vec::new())),
    ("session", |service| service.engine.session(service.session.network(), options()).map(|_| Vec::new())),
    ("tune", |service| service.session.tune(1, 2).map(|_| Vec::new())),
    ("peak", |service| service.engine.peak().map(|_| Vec::new())),
];

trait Values {
    fn concat_values(&self) -> Vec<f32>;
}

impl Values for Vec<Array2<f32>> {
    fn concat_values(&self) -> Vec<f32> {
        self.iter().flatten().copied().collect()
    }
}

/// What `error` says is a line, and names the device.
pub(super) fn is_clear(error: &Error, device: &GpuDevice) -> bool {
    let text = error.to_string();
    !text.contains('\n') && !text.ends_with('.') && text.contains(&device.info().to_string())
}

#[test]
fn a_lost_device_is_called_that_by_every_call_and_stays_lost() -> Result<()> {
    let Some(adapter) = an_adapter() else { return Ok(()) };
    for polled in [false, true] {
        for (name, ask) in ASKS {
            let mut service = Service::new(&adapter)?;
            service.device().device.destroy();
            if polled {
                let _ = service.device().device.poll(wgpu::PollType::Poll);
            }
            for _ in 0..2 {
                let started = Instant::now();
                let error = ask(&mut service).err();
                let is_lost = error.as_ref().is_some_and(|error| error.kind() == ErrorKind::DeviceLost && is_clear(error, &service.device()));
                let is_refused = error.as_ref().is_some_and(|error| error.to_string().contains("did not finish"));
                assert!(is_lost || is_refused, "{name}, polled {polled}: {error:?}");
                assert!(started.elapsed() < SOON, "{name}, polled {polled}: it took {:?}", started.elapsed());
            }
        }
    }
    Ok(())
}

#[test]
fn a_loss_is_not_forgotten_for_a_failure_that_came_before() -> Result<()> {
    let Some(adapter) = an_adapter() else { return Ok(()) };
    let mut service = Service::new(&adapter)?;
    // an error that no call is there to receive, then the loss
    let wrong = wgpu::BufferDescriptor { label: None, size: u64::MAX - 3, usage: wgpu::BufferUsages::STORAGE, mapped_at_creation: false };
    drop(service.device().device.create_buffer(&wrong));
    service.device().device.destroy();
    let _ = service.device().device.poll(wgpu::PollType::Poll);
    for _ in 0..3 {
        let ran = service.session.run(&Inputs::new().with("x", x().view()));
        assert_eq!(ran.err().map(|error| error.kind()), Some(ErrorKind::DeviceLost));
    }
    Ok(())
}

/// Calls on what a service has, whose faults are told apart by the point where they happen.
const SWEPT: [&str; 5] = ["run", "run_async", "run_with_state", "step", "read_state"];

#[test]
fn every_fault_at_every_point_is_told_and_takes_no_more_than_it_must() -> Result<()> {
    let Some(adapter) = an_adapter() else { return Ok(()) };
    let mut happened = 0;
    for (name, ask) in ASKS.into_iter().filter(|(name, _)| SWEPT.contains(name)) {
        let expected = ask(&mut Service::new(&adapter)?)?;
        // of memory: `memory.rs`
        for fault in Fault::ALL.into_iter().filter(|fault| *fault != Fault::Memory) {
            for point in 0.. {
                let mut service = Service::new(&adapter)?;
                service.arm(point, fault);
                let started = Instant::now();
                let answer = ask(&mut service);
                assert!(started.elapsed() < SOON, "{name}, {fault:?} at {point}: it took {:?}", started.elapsed());
                if !service.device().health.inject.has_happened() {
                    assert_eq!(answer?, expected, "{name} without a fault");
                    break;
                }
                happened += 1;
                check(&service, &answer, &expected, &format!("{name}, {fault:?} at {point}"));
                let again = ask(&mut service);
                match (&answer, service.device().failed()) {
                    // a call that had the device do nothing took nothing
                    (Err(_), Ok(())) if !is_refused(&again) => assert_eq!(again?, expected, "{name}, {fault:?} at {point}: again"),
                    (Err(_), Err(_)) => assert!(again.is_err(), "{name}, {fault:?} at {point}: a lost device gave something"),
                    _ => {}
                }
            }
        }
    }
    println!("{happened} faults");
    Ok(())
}

/// An answer is right, or an error that says what happened.
fn check(service: &Service, answer: &Result<Vec<f32>>, expected: &[f32], what: &str) {
    match answer {
        Ok(values) => assert_eq!(values, expected, "{what}"),
        Err(error) => {
            assert!(is_clear(error, &service.device()), "{what}: {error:?}");
            let kinds = [ErrorKind::DeviceLost, ErrorKind::Timeout, ErrorKind::OutOfMemory];
            assert!(kinds.contains(&error.kind()) || (what.contains("Unmapped") && error.kind() == ErrorKind::Validation), "{what}: {error:?}");
        }
    }
}

/// Whether a call is refused because of one that did not finish.
pub(super) fn is_refused<T>(answer: &Result<T>) -> bool {
    answer.as_ref().is_err_and(|error| error.kind() == ErrorKind::StateLost)
}

#[test]
fn a_step_that_finds_no_memory_loses_nobody() -> Result<()> {
    let Some(adapter) = an_adapter() else { return Ok(()) };
    let mut undisturbed = Service::new(&adapter)?;
    let expected = [undisturbed.step()?, undisturbed.step()?];
    // longer than the step before, so that buffers have to grow
    let long = Array2::from_elem((40, 4), 0.5);
    let mut failed = 0;
    for point in 0.. {
        let mut service = Service::new(&adapter)?;
        assert_eq!(service.step()?, expected[0]);
        service.arm(point, Fault::Memory);
        let answer = service.stream.step(&[(service.slots[1], long.view())]);
        assert!(service.device().health.inject.has_happened(), "the submit is a point");
        assert_eq!(answer.err().map(|error| error.kind()), Some(ErrorKind::OutOfMemory));
        if service.stream.lost > 0 {
            // it is the submit that failed: nobody knows what of it the device has done
            break;
        }
        assert_eq!(service.step()?, expected[1], "after the memory ran out at {point}");
        failed += 1;
    }
    assert!(failed > 5, "there are {failed} points before the first submit");
    println!("{failed} points");
    Ok(())
}

#[test]
fn a_write_that_fails_is_told_to_its_own_caller() -> Result<()> {
    let Some(adapter) = an_adapter() else { return Ok(()) };
    let mut service = Service::new(&adapter)?;
    let expected = numbers(&service.session.run(&Inputs::new().with("x", x().view()))?)?;
    service.arm(0, Fault::Memory);
    assert_eq!(service.stream.join().err().map(|error| error.kind()), Some(ErrorKind::OutOfMemory));
    assert_eq!((service.stream.active(), service.stream.capacity()), (2, 3), "nobody joined");
    assert_eq!(numbers(&service.session.run(&Inputs::new().with("x", x().view()))?)?, expected, "another caller hears nothing of it");
    let values = service.session.read_state(&service.state)?;
    service.arm(0, Fault::Memory);
    let written = service.session.write_state(&mut service.state, &values);
    assert_eq!(written.err().map(|error| error.kind()), Some(ErrorKind::OutOfMemory));
    assert!(is_refused(&service.session.read_state(&service.state)), "nobody knows what of it was written");
    service.session.write_state(&mut service.state, &values)?;
    assert_eq!(service.session.read_state(&service.state)?, values);
    Ok(())
}

#[test]
fn no_time_to_answer_is_refused() {
    let request = DeviceRequest { timeout: Some(Duration::ZERO), ..DeviceRequest::default() };
    let error = Engine::new(request).expect_err("nothing answers in no time");
    assert_eq!((error.kind(), error.to_string()), (ErrorKind::Config, "timeout: expected more than 0 s, found 0 s".to_owned()));
}

#[test]
fn a_device_that_does_not_answer_in_time_counts_as_lost() -> Result<()> {
    let Some(adapter) = an_adapter() else { return Ok(()) };
    // a call that no software adapter does within a millisecond
    let x = Array3::from_elem((2000, 64, 4), 0.5_f32);
    let mut service = Service::opened(&adapter, Opening { timeout: Duration::from_millis(1), ..OPENING })?;
    let mut run = || service.session.run(&Inputs::new().with("x", x.view())).err().map(|error| (error.kind(), error.to_string()));
    let (kind, text) = run().expect("the device is not done in time");
    assert!(kind == ErrorKind::Timeout && text.contains("no answer from the device within 0.001 s"), "{kind:?}: {text}");
    let (kind, text) = run().expect("the device counts as lost");
    assert!(kind == ErrorKind::DeviceLost && text.contains("counts as lost"), "{kind:?}: {text}");
    Ok(())
}

#[test]
fn a_device_that_hangs_is_closed_in_a_thread_of_its_own() -> Result<()> {
    let Some(adapter) = an_adapter() else { return Ok(()) };
    for hangs in [true, false] {
        let mut service = Service::new(&adapter)?;
        ASKS.into_iter().filter(|(name, _)| SWEPT.contains(name)).try_for_each(|(_, ask)| ask(&mut service).map(drop))?;
        let (told, heard) = mpsc::channel();
        let (answers, answer) = mpsc::channel::<()>();
        service.device().health.inject.on_close(move || {
            let _ = told.send(std::thread::current().id());
            if hangs {
                // as long as a driver does not come back
                let _ = answer.recv_timeout(6 * SOON);
            }
        });
        if hangs {
            service.arm(0, Fault::Hang);
            assert_eq!(service.step().err().map(|error| error.kind()), Some(ErrorKind::Timeout));
        }
        let started = Instant::now();
        drop(service);
        assert!(started.elapsed() < SOON, "it took {:?} to drop everything", started.elapsed());
        let thread = heard.recv_timeout(SOON).expect("the device is closed");
        assert_eq!(thread != std::thread::current().id(), hangs);
        drop(answers);
    }
    Ok(())
}

#[test]
fn asynchronous_calls_wait_in_one_thread_that_ends_with_the_device() -> Result<()> {
    let Some(adapter) = an_adapter() else { return Ok(()) };
    let service = Service::new(&adapter)?;
    let (network, x) = (service.session.network(), x());
    let inputs = Inputs::new().with("x", x.view());
    let mut sessions = (0..8).map(|_| service.engine.session(network, options())).collect::<Result<Vec<_>>>()?;
    let expected = sessions[0].run(&inputs)?;
    for _ in 0..20 {
        // all are under way before the first is asked for its result
        let mut calls: Vec<_> = sessions.iter_mut().map(|session| Box::pin(session.run_async(&inputs))).collect();
        let mut context = Context::from_waker(Waker::noop());
        let mut first: Vec<_> = calls.iter_mut().map(|call| call.as_mut().poll(&mut context)).collect();
        for (call, first) in calls.iter_mut().zip(first.drain(..)).rev() {
            let ran = match first {
                Poll::Ready(ran) => ran?,
                Poll::Pending => pollster::block_on(call)?,
            };
            assert!(ran == expected, "other bits");
        }
    }
    drop(sessions);
    let health = Arc::downgrade(&service.device().health);
    drop(service);
    assert!(health.upgrade().is_none(), "the thread is gone");
    Ok(())
}

#[test]
fn a_device_that_is_lost_while_candidates_are_measured_leaves_no_record() -> Result<()> {
    let Some(adapter) = an_adapter() else { return Ok(()) };
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    for point in [0, 60, 120] {
        let service = Service::new(&adapter)?;
        let options = Options { cache: Some(folder.path().to_owned()), ..Options::default() };
        let mut session = service.engine.session(service.session.network(), options)?;
        service.arm(point, Fault::Destroyed);
        let tuned = session.tune(1, 2);
        assert!(service.device().health.inject.has_happened(), "candidates have more points than {point}");
        assert_eq!(tuned.err().map(|error| error.kind()), Some(ErrorKind::DeviceLost), "after {point} points");
        let records = std::fs::read_dir(folder.path()).expect("the folder is there").count();
        assert_eq!(records, 0, "after {point} points");
    }
    Ok(())
}
