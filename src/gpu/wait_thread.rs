//! Waits for callers that cannot block: in one thread for each device, made when somebody first asks, which ends with the device.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use futures_intrusive::channel::shared::{OneshotSender, oneshot_channel};

use crate::error::{Error, ErrorKind, Result};
use crate::gpu::ahead::Submit;
use crate::gpu::waiter::Waiter;

/// The thread, where it was needed.
pub(super) struct WaitThread {
    waiter: Waiter,
    running: Mutex<Option<Running>>,
}

struct Running {
    asks: Sender<Ask>,
    thread: JoinHandle<()>,
}

/// Somebody waits for a submit.
struct Ask {
    submit: Submit,
    since: Instant,
    done: OneshotSender<Result<()>>,
}

impl WaitThread {
    pub(super) fn new(waiter: Waiter) -> Self {
        Self { waiter, running: Mutex::default() }
    }

    /// As [`Waiter::wait`], in the thread.
    pub(super) async fn wait(&self, submit: Submit) -> Result<()> {
        let (done, receiver) = oneshot_channel();
        self.ask(Ask { submit, since: Instant::now(), done })?;
        receiver.receive().await.unwrap_or_else(|| Err(Error::new(ErrorKind::DeviceLost, "the thread that waits for the device ended")))
    }

    fn ask(&self, ask: Ask) -> Result<()> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let Running { asks, .. } = match &mut *running {
            Some(running) => running,
            none => {
                let (asks, asked) = channel();
                let (waiter, thread) = (self.waiter.clone(), std::thread::Builder::new().name("cellgate wait".to_owned()));
                let thread = thread
                    .spawn(move || serve(&waiter, &asked))
                    .map_err(|error| Error::new(ErrorKind::Io, format!("no thread to wait for the device in: {error}")).with_source(error))?;
                none.insert(Running { asks, thread })
            }
        };
        // a thread that has ended answers nobody, which who waits is told
        let _ = asks.send(ask);
        Ok(())
    }
}

impl Drop for WaitThread {
    fn drop(&mut self) {
        let Some(Running { asks, thread }) = self.running.get_mut().unwrap_or_else(PoisonError::into_inner).take() else { return };
        drop(asks);
        // a process that ends had better not do so while a thread is in the driver; one that hangs there is not waited for, nor is this one itself
        if !self.waiter.health.hangs() && thread.thread().id() != std::thread::current().id() {
            let _ = thread.join();
        }
    }
}

/// Waits for the submits in the order in which the device does them, for as long as somebody may ask. Who asks for an earlier one than the one that is
/// being waited for hears of it with that one.
fn serve(waiter: &Waiter, asked: &Receiver<Ask>) {
    let mut asks: BTreeMap<u64, Vec<Ask>> = BTreeMap::new();
    let add = |asks: &mut BTreeMap<u64, Vec<Ask>>, ask: Ask| asks.entry(ask.submit.number).or_default().push(ask);
    loop {
        if asks.is_empty() {
            let Ok(ask) = asked.recv() else { return };
            add(&mut asks, ask);
        }
        asked.try_iter().for_each(|ask| add(&mut asks, ask));
        let Some(mut first) = asks.first_entry() else { continue };
        let Some(Ask { submit, since, .. }) = first.get().first() else { continue };
        match waiter.wait_a_slice(&submit.index, *since) {
            Ok(false) => {}
            Ok(true) => first.remove().into_iter().for_each(|ask| tell(ask, Ok(()))),
            // the others will be told why
            Err(error) => tell(first.get_mut().swap_remove(0), Err(error)),
        }
        asks.retain(|_, asks| !asks.is_empty());
    }
}

/// Tells who waits. Whoever dropped the future does not, and that is fine; what a caller's waker does is not this thread's end.
fn tell(ask: Ask, result: Result<()>) {
    let _ = catch_unwind(AssertUnwindSafe(|| ask.done.send(result)));
}
