//! Threads that help a caller within microseconds.
//!
//! A time step of one row takes less than it takes to wake a thread, and far less than to hand it a job through a queue: rayon's threads sleep
//! soon, and a call from outside its pool has to change threads first. The crew's threads look for work for a while before they sleep.

use std::hint::spin_loop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, TryLockError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crate::cpu::lock;

/// For how long a thread without work looks for some before it sleeps: longer than what lies between two calls of a program that does little
/// else, too short to be seen in a process list.
const AWAKE: Duration = Duration::from_micros(200);

/// Looks for something until it is there, or for as long as `awake`; the clock is not looked at before a while.
pub(super) fn comes_within(awake: Duration, is_there: impl Fn() -> bool) -> bool {
    let mut started = None;
    loop {
        for _ in 0..200 {
            if is_there() {
                return true;
            }
            spin_loop();
        }
        if started.get_or_insert_with(Instant::now).elapsed() > awake {
            return false;
        }
    }
}

/// Work for several threads.
pub(super) trait Job: Send + Sync {
    /// One thread's part. Member 0 is the caller, who does not come here.
    fn help(&self, member: usize);
}

static CREW: Mutex<Threads> = Mutex::new(Threads { helpers: Vec::new(), refused: false, hired: None, process: 0 });

/// Calls under way that could have a crew.
static CALLS: AtomicUsize = AtomicUsize::new(0);

/// The crew, as long as nobody else has it.
pub(super) struct Crew(MutexGuard<'static, Threads>);

struct Threads {
    /// those that there are
    helpers: Vec<Helper>,
    /// whether the system would not give another
    refused: bool,
    /// whose threads they are: a forked process has a copy of this, and none of them
    process: u32,
    /// when somebody hired the crew last
    hired: Option<Instant>,
}

struct Helper {
    post: Arc<Post>,
    thread: Thread,
}

/// Where a helper finds its work.
#[derive(Default)]
struct Post {
    /// what to do, and as which member
    job: Mutex<Option<(Arc<dyn Job>, usize)>>,
    /// jobs posted so far
    posted: AtomicUsize,
    sleeps: AtomicBool,
    /// whether it is to look for work for another while
    roused: AtomicBool,
}

impl Crew {
    /// The crew with so many helpers, if they could be started; `None` while somebody else has it.
    ///
    /// For a call that is `short` there is none before its threads are awake. They are woken where such calls come one after the other.
    pub(super) fn hire(helpers: usize, short: bool) -> Option<Self> {
        let mut crew = match CREW.try_lock() {
            Ok(crew) => crew,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        if crew.process != process::id() {
            *crew = Threads { helpers: Vec::new(), refused: false, hired: None, process: process::id() };
        }
        while crew.helpers.len() < helpers && !crew.refused {
            match Helper::start() {
                Some(helper) => crew.helpers.push(helper),
                None => crew.refused = true,
            }
        }
        if crew.helpers.len() < helpers {
            return None;
        }
        let last = crew.hired.replace(Instant::now());
        if !short {
            return Some(Self(crew));
        }
        let mut all_awake = true;
        for Helper { post, thread } in &crew.helpers[..helpers] {
            if post.sleeps.load(Ordering::SeqCst) {
                all_awake = false;
                if last.is_some_and(|last| last.elapsed() < AWAKE) {
                    post.roused.store(true, Ordering::SeqCst);
                    thread.unpark();
                }
            }
        }
        all_awake.then_some(Self(crew))
    }

    /// Has `job` done by the first helpers, as members 1, 2, ...; returns at once.
    pub(super) fn post(&self, job: &Arc<impl Job + 'static>, helpers: usize) {
        for (number, Helper { post, thread }) in self.0.helpers[..helpers].iter().enumerate() {
            *lock(&post.job) = Some((Arc::clone(job) as Arc<dyn Job>, number + 1));
            post.posted.fetch_add(1, Ordering::SeqCst);
            if post.sleeps.load(Ordering::SeqCst) {
                thread.unpark();
            }
        }
    }
}

/// A call, as long as it is under way.
pub(super) struct UnderWay(usize);

impl UnderWay {
    /// Counts the call.
    pub(super) fn begin() -> Self {
        Self(CALLS.fetch_add(1, Ordering::SeqCst) + 1)
    }

    /// Threads that the call may have at work: the processor's, divided by the calls that were under way when it began. Threads that share a
    /// step and have to wait for a core hold up all the others.
    pub(super) fn fair_share(&self) -> usize {
        static CORES: OnceLock<usize> = OnceLock::new();
        (CORES.get_or_init(|| thread::available_parallelism().map_or(1, usize::from)) / self.0).max(1)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        CALLS.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Helper {
    /// A thread; `None` where the system has none left, or knows none.
    fn start() -> Option<Self> {
        let post = Arc::new(Post::default());
        let worker = Arc::clone(&post);
        let thread = thread::Builder::new().name("cellgate".to_owned()).spawn(move || worker.work()).ok()?;
        Some(Self { post, thread: thread.thread().clone() })
    }
}

impl Post {
    /// Waits for jobs, and does them, for ever.
    fn work(&self) {
        for known in 0.. {
            self.wait(known);
            let job = lock(&self.job).take();
            if let Some((job, member)) = job {
                // the job lets its caller know; the thread is needed again
                let _ = catch_unwind(AssertUnwindSafe(|| job.help(member)));
            }
        }
    }

    /// Until more than `known` jobs were posted.
    fn wait(&self, known: usize) {
        let is_there = || self.posted.load(Ordering::SeqCst) > known;
        loop {
            if comes_within(AWAKE, is_there) {
                return;
            }
            self.sleeps.store(true, Ordering::SeqCst);
            while !is_there() && !self.roused.swap(false, Ordering::SeqCst) {
                thread::park();
            }
            self.sleeps.store(false, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Job for Count {
        fn help(&self, member: usize) {
            self.0.fetch_add(member, Ordering::SeqCst);
        }
    }

    struct Fails;

    impl Job for Fails {
        fn help(&self, _: usize) {
            panic!("a job that fails, for the test");
        }
    }

    fn hired(helpers: usize) -> Crew {
        loop {
            if let Some(crew) = Crew::hire(helpers, false) {
                return crew;
            }
            thread::yield_now();
        }
    }

    #[test]
    fn a_helper_outlives_a_job_that_fails() {
        let crew = hired(2);
        crew.post(&Arc::new(Fails), 2);
        let job = Arc::new(Count::default());
        while crew.0.helpers[..2].iter().any(|helper| lock(&helper.post.job).is_some()) {
            thread::yield_now();
        }
        crew.post(&job, 2);
        while job.0.load(Ordering::SeqCst) < 3 {
            thread::yield_now();
        }
    }

    /// With pauses in which helpers fall asleep, and without.
    #[test]
    fn every_helper_does_every_job_once() {
        let crew = hired(3);
        for round in 1..=200 {
            let job = Arc::new(Count::default());
            crew.post(&job, 3);
            while job.0.load(Ordering::SeqCst) < 6 {
                thread::yield_now();
            }
            assert_eq!(job.0.load(Ordering::SeqCst), 6);
            if round % 40 == 0 {
                thread::sleep(4 * AWAKE);
            }
        }
    }
}
