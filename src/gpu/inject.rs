//! Faults on purpose, for tests: at any of the points where the host waits for the device, makes something on it or gives it something.

use std::sync::Mutex;

use crate::gpu::device::lock;
use crate::gpu::fault::Health;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// the device is destroyed, and nobody has polled since
    Destroyed,
    /// it is destroyed, and somebody has
    DestroyedAndPolled,
    /// the driver says that it is lost
    Told,
    /// it has no memory left for what is made
    Memory,
    /// it does not answer
    Hang,
    /// asking it panics, as wgpu does on a lost device of some backends
    Panic,
    /// asking it panics, as wgpu does where two threads ask, though it is well
    Race,
    /// a buffer is not mapped
    Unmapped,
}

/// Where something can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Point {
    /// something is made on the device, or given to it
    Make,
    /// the host waits for a submit
    Wait,
    /// the host takes a buffer that is mapped
    Map,
}

impl Fault {
    /// Every fault.
    pub(crate) const ALL: [Self; 8] =
        [Self::Destroyed, Self::DestroyedAndPolled, Self::Told, Self::Memory, Self::Hang, Self::Panic, Self::Race, Self::Unmapped];

    fn can_happen(self, point: Point) -> bool {
        match self {
            Self::Destroyed | Self::DestroyedAndPolled | Self::Told => true,
            Self::Memory => point == Point::Make,
            Self::Hang | Self::Panic | Self::Race => point == Point::Wait,
            Self::Unmapped => point == Point::Map,
        }
    }
}

/// What is to go wrong, after how many more points where it can.
#[derive(Default)]
pub(crate) struct Inject {
    armed: Mutex<Option<(usize, Fault)>>,
    closing: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Inject {
    /// Has `fault` happen at a point where it can, after `points` others.
    pub(crate) fn arm(&self, points: usize, fault: Fault) {
        *lock(&self.armed) = Some((points, fault));
    }

    /// Whether what was to happen has happened; if not, it does not any more.
    pub(crate) fn has_happened(&self) -> bool {
        lock(&self.armed).take().is_none()
    }

    /// Has `closing` be called where the device is closed, before it is.
    pub(crate) fn on_close(&self, closing: impl FnOnce() + Send + 'static) {
        *lock(&self.closing) = Some(Box::new(closing));
    }

    pub(super) fn close(&self) {
        if let Some(closing) = lock(&self.closing).take() {
            closing();
        }
    }

    fn pass(&self, point: Point) -> Option<Fault> {
        let mut armed = lock(&self.armed);
        let (points, _) = armed.as_mut().filter(|(_, fault)| fault.can_happen(point))?;
        if *points > 0 {
            *points -= 1;
            return None;
        }
        armed.take().map(|(_, fault)| fault)
    }
}

impl Health {
    /// A point is passed on `device`: what the caller is to do wrong there, where the fault is not the device's own.
    pub(super) fn pass(&self, device: &wgpu::Device, point: Point) -> Option<Fault> {
        match self.inject.pass(point)? {
            Fault::Destroyed => device.destroy(),
            Fault::DestroyedAndPolled => {
                device.destroy();
                let _ = device.poll(wgpu::PollType::Poll);
            }
            Fault::Told => self.lose("the device was lost (Unknown): for a test"),
            other => return Some(other),
        }
        None
    }
}
