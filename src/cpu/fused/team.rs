//! Threads that walk one block together, each with panels of its own.
//!
//! After every step the members exchange what they made; everything else they have for themselves. A value travels in one word with the number
//! of the exchange: whoever looks for it sees that it is there when it comes, without a barrier whose counter would travel first.

use std::cell::Cell;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock, RwLockReadGuard, Weak};
use std::time::Duration;

use ndarray::ArrayView3;

use super::Stack;
use super::block::Block;
use super::crew::{Job, comes_within};
use super::scratch::{Scratch, Shape};

/// For how long a member looks for what it waits for before it sleeps.
const AWAKE: Duration = Duration::from_micros(100);

/// Calls that threads shared.
#[cfg(test)]
pub(in crate::cpu) static LED: AtomicUsize = AtomicUsize::new(0);

/// A block in work, with what its members share.
pub(super) struct Team {
    /// the stack owns its teams
    stack: Weak<Stack>,
    task: RwLock<Task>,
    /// helpers that are done
    done: AtomicUsize,
    /// whether a member panicked
    failed: AtomicBool,
    sleepers: AtomicUsize,
    bell: (Mutex<()>, Condvar),
}

/// What the members work on.
pub(super) struct Task {
    shape: Shape,
    members: usize,
    /// `[T, N, I]`: a copy, as a helper may not borrow
    x: Vec<f32>,
    x_shape: (usize, usize, usize),
    /// the block's rows, longest first
    order: Vec<usize>,
    lens: Vec<usize>,
    /// of every cell, the states at the start: hidden ones as in [`CellScratch`](super::scratch::CellScratch), and the cell's
    states: Vec<(Vec<f32>, Vec<f32>)>,
    /// what is exchanged, in turns in one half and in the other, `[2, cells, rows, width]`: the exchange's number, and a float32's bits
    slots: Vec<AtomicU64>,
    width: usize,
    /// cell states at the end: `[cells, panels, rows, lanes]`
    last: Vec<AtomicU32>,
}

/// One thread's part in a block.
pub(super) struct Member<'m> {
    index: usize,
    count: usize,
    team: Option<(&'m Team, &'m Task)>,
    /// number of the exchange that is under way or comes next
    exchange: u32,
}

impl Member<'_> {
    /// A thread that has a block for itself.
    pub(super) fn alone() -> Self {
        Self { index: 0, count: 1, team: None, exchange: 1 }
    }

    pub(super) fn is_alone(&self) -> bool {
        self.count == 1
    }

    /// How many members there are.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// This member's part of `count` things, which is something where there are as many as members.
    pub(super) fn share(&self, count: usize) -> Range<usize> {
        count * self.index / self.count..count * (self.index + 1) / self.count
    }

    /// Where the cell states of this member's panels lie.
    fn own_states(&self, stack: &Stack, shape: Shape) -> Range<usize> {
        let (panels, len) = (self.share(stack.wide_hidden() / stack.lanes), shape.rows * stack.lanes);
        panels.start * len..panels.end * len
    }

    /// Shows the others the columns `own` of `rows` rows of a cell.
    pub(super) fn show(&self, cell: usize, values: &[f32], stride: usize, rows: usize, own: Range<usize>) {
        let Some((team, task)) = self.team else { return };
        for (slots, values) in task.slots(self.exchange, cell).chunks_exact(task.width).zip(values.chunks_exact(stride)).take(rows) {
            for (slot, value) in slots[own.clone()].iter().zip(&values[own.clone()]) {
                slot.store(u64::from(self.exchange) << 32 | u64::from(value.to_bits()), Ordering::Release);
            }
        }
        // who has gone to sleep without seeing these is seen here
        fence(Ordering::SeqCst);
        team.ring();
    }

    /// Takes what the others show of these rows: all columns but `own`.
    pub(super) fn look(&self, cell: usize, values: &mut [f32], stride: usize, rows: usize, own: Range<usize>) {
        let Some((team, task)) = self.team else { return };
        for (slots, values) in task.slots(self.exchange, cell).chunks_exact(task.width).zip(values.chunks_exact_mut(stride)).take(rows) {
            for others in [0..own.start, own.end..stride] {
                for (value, slot) in values[others.clone()].iter_mut().zip(&slots[others]) {
                    *value = f32::from_bits(self.wait_for(team, slot));
                }
            }
        }
    }

    /// Has shown and seen everything of this exchange.
    pub(super) fn end_exchange(&mut self) {
        self.exchange += 1;
    }

    /// The bits in `slot`, once they are this exchange's.
    #[expect(clippy::cast_possible_truncation, reason = "the bits are the lower half")]
    fn wait_for(&self, team: &Team, slot: &AtomicU64) -> u32 {
        let is_there = |word: u64| word >> 32 == u64::from(self.exchange);
        // with what was checked, not with what a second look would see: by then somebody may be an exchange ahead
        let word = Cell::new(slot.load(Ordering::Acquire));
        if !is_there(word.get()) {
            team.wait_until(|| {
                word.set(slot.load(Ordering::SeqCst));
                is_there(word.get())
            });
        }
        word.get() as u32
    }
}

impl Task {
    /// Where a cell's values are exchanged. The next time it is the other half. Nobody is two exchanges ahead, as everyone shows something in each
    /// and waits for all.
    fn slots(&self, exchange: u32, cell: usize) -> &[AtomicU64] {
        let size = self.shape.rows * self.width;
        &self.slots[(exchange as usize % 2 * self.states.len() + cell) * size..][..size]
    }
}

impl Team {
    pub(super) fn new(stack: &Arc<Stack>) -> Self {
        let task = Task {
            shape: Shape { rows: 0, chunk: 0, num_chunks: 0 },
            members: 0,
            x: Vec::new(),
            x_shape: (0, 0, 0),
            order: Vec::new(),
            lens: Vec::new(),
            states: Vec::new(),
            slots: Vec::new(),
            width: 0,
            last: Vec::new(),
        };
        Self {
            stack: Arc::downgrade(stack),
            task: RwLock::new(task),
            done: AtomicUsize::new(0),
            failed: AtomicBool::new(false),
            sleepers: AtomicUsize::new(0),
            bell: (Mutex::new(()), Condvar::new()),
        }
    }

    /// Makes ready for a block whose rows and states are in `scratch`; no member is at work.
    pub(super) fn prepare(&self, stack: &Stack, members: usize, x: &ArrayView3<'_, f32>, scratch: &Scratch, shape: Shape) {
        let mut task = self.task.write().unwrap_or_else(PoisonError::into_inner);
        let task = &mut *task;
        (task.shape, task.members) = (shape, members);
        task.x_shape = x.dim();
        task.x.clear();
        match x.as_slice() {
            Some(x) => task.x.extend_from_slice(x),
            None => task.x.extend(x),
        }
        task.order.clone_from(&scratch.order);
        task.lens.clone_from(&scratch.lens);
        task.states.resize_with(scratch.cells.len(), Default::default);
        for ((h, c), cell) in task.states.iter_mut().zip(&scratch.cells) {
            h.clear();
            h.extend_from_slice(&cell.h[..shape.rows * stack.stride()]);
            c.clear();
            c.extend_from_slice(&cell.c[..shape.rows * stack.wide_hidden()]);
        }
        task.width = stack.stride().max(stack.wide_hidden());
        let slots = 2 * scratch.cells.len() * shape.rows * task.width;
        task.slots.resize_with(slots.max(task.slots.len()), Default::default);
        task.slots[..slots].iter_mut().for_each(|slot| *slot.get_mut() = 0);
        let last = scratch.cells.len() * shape.rows * stack.wide_hidden();
        task.last.resize_with(last.max(task.last.len()), Default::default);
        self.done.store(0, Ordering::SeqCst);
        self.failed.store(false, Ordering::SeqCst);
    }

    /// The caller's part: `walk` gets its membership. Returns when all members are done.
    pub(super) fn lead(&self, stack: &Stack, scratch: &mut Scratch, walk: impl FnOnce(&mut Scratch, &mut Member<'_>)) {
        #[cfg(test)]
        LED.fetch_add(1, Ordering::SeqCst);
        let guard = FailsUnlessDone(self);
        let task = self.read();
        let mut member = Member { index: 0, count: task.members, team: Some((self, &task)), exchange: 1 };
        walk(scratch, &mut member);
        self.wait_until(|| self.done.load(Ordering::SeqCst) == task.members - 1);
        let size = task.shape.rows * stack.wide_hidden();
        let others = member.own_states(stack, task.shape).end..size;
        for (cell, last) in scratch.cells.iter_mut().zip(task.last.chunks_exact(size.max(1))) {
            for (c, last) in cell.c[others.clone()].iter_mut().zip(&last[others.clone()]) {
                *c = f32::from_bits(last.load(Ordering::Relaxed));
            }
        }
        std::mem::forget(guard);
    }

    fn read(&self) -> RwLockReadGuard<'_, Task> {
        self.task.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until `there`: for a while in turns, then asleep.
    fn wait_until(&self, there: impl Fn() -> bool) {
        if comes_within(AWAKE, &there) {
            return;
        }
        let (lock, bell) = &self.bell;
        let mut guard = crate::cpu::lock(lock);
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        while !there() {
            assert!(!self.failed.load(Ordering::SeqCst), "another thread of this call failed");
            guard = bell.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
    }

    /// Wakes who sleeps. What they wait for has been stored before, in the order in which all threads see it.
    fn ring(&self) {
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            let (lock, bell) = &self.bell;
            let _guard = crate::cpu::lock(lock);
            bell.notify_all();
        }
    }
}

impl Job for Team {
    fn help(&self, index: usize) {
        let guard = FailsUnlessDone(self);
        let task = self.read();
        let Some(stack) = self.stack.upgrade() else { return };
        let (stack, shape) = (&*stack, task.shape);
        let mut scratch = stack.take();
        scratch.order.clone_from(&task.order);
        scratch.lens.clone_from(&task.lens);
        stack.make_room(&mut scratch, shape, task.states.len());
        for (cell, (h, c)) in scratch.cells.iter_mut().zip(&task.states) {
            cell.h[..h.len()].copy_from_slice(h);
            cell.c[..c.len()].copy_from_slice(c);
        }
        let mut member = Member { index, count: task.members, team: Some((self, &task)), exchange: 1 };
        let x = ArrayView3::from_shape(task.x_shape, &task.x).expect("as many elements as were copied");
        Block { stack, x, shape, scratch: &mut scratch, member: &mut member }.walk(None);
        let own = member.own_states(stack, shape);
        for (cell, last) in scratch.cells.iter().zip(task.last.chunks_exact((shape.rows * stack.wide_hidden()).max(1))) {
            for (c, last) in cell.c[own.clone()].iter().zip(&last[own.clone()]) {
                last.store(c.to_bits(), Ordering::Relaxed);
            }
        }
        stack.give(scratch);
        drop(task);
        std::mem::forget(guard);
        self.done.fetch_add(1, Ordering::SeqCst);
        self.ring();
    }
}

/// Lets the others know when a member panics: they would wait for it for ever.
struct FailsUnlessDone<'a>(&'a Team);

impl Drop for FailsUnlessDone<'_> {
    fn drop(&mut self) {
        self.0.failed.store(true, Ordering::SeqCst);
        let (lock, bell) = &self.0.bell;
        let _guard = crate::cpu::lock(lock);
        bell.notify_all();
    }
}
