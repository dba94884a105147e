//! Closing a device.

use std::sync::{Arc, mpsc};

use crate::gpu::fault::Health;

/// The last that is there of a device. Closing one waits for its work, in wgpu and in the driver, and without end where the device hangs: that one is
/// closed in a thread of its own. Whatever is on a device holds it by an `Arc` that is dropped behind all the rest.
pub(super) struct Last {
    /// there until it is dropped
    handles: Option<(wgpu::Device, wgpu::Queue)>,
    health: Arc<Health>,
}

impl Last {
    pub(super) fn new(device: &wgpu::Device, queue: &wgpu::Queue, health: &Arc<Health>) -> Self {
        Self { handles: Some((device.clone(), queue.clone())), health: Arc::clone(health) }
    }
}

impl Drop for Last {
    fn drop(&mut self) {
        let (handles, health) = (self.handles.take(), Arc::clone(&self.health));
        let close = move |handles| {
            #[cfg(test)]
            health.inject.close();
            drop((handles, health));
        };
        if !self.health.hangs() {
            return close(handles);
        }
        let (sender, receiver) = mpsc::channel();
        let thread = std::thread::Builder::new().name("cellgate close".to_owned()).spawn(move || receiver.recv().map(close));
        match thread {
            // it waits for them
            Ok(_) => drop(sender.send(handles)),
            // a device that stays open is better than a caller that does not come back
            Err(_) => std::mem::forget(handles),
        }
    }
}
