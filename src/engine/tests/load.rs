//! A device that is lost in the middle of many threads' work.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use ndarray::{Array2, Array3};

use crate::engine::tests::faults::{SOON, options};
use crate::engine::tests::{OPENING, an_adapter, network};
use crate::gpu::GpuDevice;
use crate::gpu::inject::Fault;
use crate::{Engine, Error, ErrorKind, GraphicsBackend, Inputs, Network, Outputs, Result, Stream};

const THREADS: usize = 16;
const SESSIONS: usize = 200;

/// What several threads do, and what comes of it where nothing fails.
struct Work {
    engine: Engine,
    networks: Vec<(Network, Outputs)>,
    stepped: Array2<f32>,
}

fn x() -> Array3<f32> {
    Array3::from_shape_fn((5, 2, 4), |(step, row, k)| (step * row + k) as f32 / 16.0)
}

impl Work {
    fn new(engine: Engine) -> Result<Self> {
        let networks = [5, 9, 33].into_iter().map(|hidden_size| {
            let network = network(4, hidden_size)?;
            let expected = engine.session(&network, options())?.run(&Inputs::new().with("x", x().view()))?;
            Ok((network, expected))
        });
        let networks = networks.collect::<Result<Vec<_>>>()?;
        let mut work = Self { engine, networks, stepped: Array2::zeros((0, 0)) };
        work.stepped = step(&mut work.stream()?)?;
        Ok(work)
    }

    /// A stream in which somebody stays.
    fn stream(&self) -> Result<Stream<'static>> {
        let mut stream = self.engine.session(&self.networks[0].0, options())?.into_stream(3)?;
        stream.join()?;
        Ok(stream)
    }

    /// A session that is made, run in both ways, and dropped: the same bits each time.
    fn session(&self, number: usize) -> Result<()> {
        let (network, expected) = &self.networks[number % self.networks.len()];
        let (x, mut session) = (x(), self.engine.session(network, options())?);
        let inputs = Inputs::new().with("x", x.view());
        assert!(session.run(&inputs)? == *expected, "session {number} has other bits");
        let ran = if number.is_multiple_of(2) { pollster::block_on(session.run_async(&inputs))? } else { session.run(&inputs)? };
        assert!(ran == *expected, "session {number} has other bits the second time");
        Ok(())
    }

    /// All sessions, on many threads; the errors that came. Each thread has a stream of its own from before.
    fn run(&self, streams: &mut [Stream<'static>]) -> Vec<Error> {
        let next = AtomicUsize::new(0);
        let thread = |stream: &mut Stream<'static>| {
            let mut errors = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= SESSIONS {
                    return errors;
                }
                errors.extend(self.session(number).err());
                match step(stream) {
                    Ok(y) => assert_eq!(y, self.stepped, "a step has other bits"),
                    Err(error) => errors.push(error),
                }
            }
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = streams.iter_mut().map(|stream| scope.spawn(|| thread(stream))).collect();
            threads.into_iter().flat_map(|thread| thread.join().expect("nobody panics")).collect()
        })
    }
}

/// The first step of a sequence, which leaves again whatever comes of it.
fn step(stream: &mut Stream<'_>) -> Result<Array2<f32>> {
    let slot = stream.join()?;
    let stepped = stream.step(&[(slot, Array2::from_elem((2, 4), 0.5).view())]);
    stream.leave(slot)?;
    Ok(stepped?.remove(0))
}

#[test]
fn threads_that_lose_their_device_are_told_so_and_go_on_after_it_has_recovered() -> Result<()> {
    let Some(adapter) = an_adapter().filter(|adapter| adapter.info.backend != Some(GraphicsBackend::Gl)) else { return Ok(()) };
    for fault in [Fault::Destroyed, Fault::DestroyedAndPolled, Fault::Told, Fault::Hang, Fault::Panic] {
        let device = pollster::block_on(GpuDevice::open_with(&adapter, OPENING, &[]))?;
        let work = Work::new(Engine::of_gpu(device, "for a test".to_owned()))?;
        let mut streams = (0..THREADS).map(|_| work.stream()).collect::<Result<Vec<_>>>()?;
        assert!(work.run(&mut streams).is_empty(), "{fault:?}: before it");

        let backend = work.engine.backend();
        let inject = &backend.gpu().expect("it was made of one").health.inject;
        inject.arm(500, fault);
        let (started, errors) = (Instant::now(), work.run(&mut streams));
        assert!(inject.has_happened() && !errors.is_empty(), "{fault:?} did not happen");
        let other = errors.iter().find(|error| !matches!(error.kind(), ErrorKind::DeviceLost | ErrorKind::StateLost | ErrorKind::Timeout));
        assert!(other.is_none(), "{fault:?}: {other:?}");
        assert!(started.elapsed() < 6 * SOON, "{fault:?}: {:?}", started.elapsed());

        std::thread::scope(|scope| {
            let recovers: Vec<_> = (0..THREADS).map(|_| scope.spawn(|| work.engine.recover())).collect();
            recovers.into_iter().try_for_each(|thread| thread.join().expect("nobody panics").map(drop))
        })?;
        for stream in &mut streams {
            let lost = stream.recover()?;
            assert_eq!(lost.len(), 1, "{fault:?}: who stayed is lost");
            stream.leave(lost[0])?;
        }
        let errors = work.run(&mut streams);
        assert!(errors.is_empty(), "{fault:?}: after it: {:?}", errors.first());
    }
    Ok(())
}
