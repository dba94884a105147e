//! Stacks whose time steps are fused: products in registers, and the cell on their sums while these are in cache.
//!
//! For every stack in float32 but layer-normalised ones, whose cells need the sums of a whole row before the first unit can go on.

mod block;
mod cell;
mod crew;
mod pack;
mod plan;
mod scratch;
mod team;

use std::cmp::Reverse;
use std::sync::{Arc, Mutex};

use ndarray::{ArrayView3, ArrayViewMut3, ArrayViewMut4, Axis};

use crate::cpu::cost::CpuRates;
use crate::cpu::lock;
use crate::cpu::panels::lanes;
use crate::network::{Lstm, LstmCall, LstmConfig, LstmState, Precision};
use block::Block;
use crew::{Crew, UnderWay};
use pack::{FusedCell, pack};
pub(super) use plan::Plan;
use scratch::{Scratch, Shape};
#[cfg(test)]
pub(super) use team::LED;
use team::{Member, Team};

/// Rows and steps whose input product is made at once: enough for the weights to be read once for many.
const CHUNK_ROWS: usize = 128;

/// A stack with its weights in panels.
pub(super) struct Stack {
    config: LstmConfig,
    cells: Vec<FusedCell>,
    lanes: usize,
    /// memory of earlier calls
    spare: Mutex<Vec<Scratch>>,
    /// the same of teams
    teams: Mutex<Vec<Arc<Team>>>,
}

/// Rows of a call that are still to be cut into blocks.
struct Part<'a> {
    /// number of the first row
    first: usize,
    /// `[T, N, I]`
    x: ArrayView3<'a, f32>,
    /// `[L*D, N, R]`
    h: ArrayViewMut3<'a, f32>,
    /// `[L*D, N, H]`
    c: ArrayViewMut3<'a, f32>,
    /// `[T, N, D, R]`, where it is wanted
    y: Option<ArrayViewMut4<'a, f32>>,
}

impl Stack {
    /// Packs the weights.
    pub(super) fn new(lstm: &Lstm, precision: Precision) -> Self {
        Self { config: lstm.config().clone(), cells: pack(lstm, precision), lanes: lanes(), spare: Mutex::default(), teams: Mutex::default() }
    }

    /// Runs the stack from `state`, which is left as it is after each row's last step, and writes `y [T, N, D, R]` where it is wanted.
    pub(super) fn run(self: &Arc<Self>, call: &LstmCall<'_>, state: &mut LstmState, y: Option<ArrayViewMut4<'_, f32>>) {
        let plan = Plan::new(&self.config, call.batch(), call.seq_len(), rayon::current_num_threads(), &CpuRates::of_host());
        let under_way = UnderWay::begin();
        self.run_planned(call, state, y, Plan { members: plan.members.min(under_way.fair_share()), ..plan });
    }

    /// Runs the stack on threads as planned.
    pub(super) fn run_planned(self: &Arc<Self>, call: &LstmCall<'_>, state: &mut LstmState, y: Option<ArrayViewMut4<'_, f32>>, plan: Plan) {
        let LstmState { h, c } = state;
        self.split(call, plan.blocks, plan, Part { first: 0, x: call.x.view(), h: h.view_mut(), c: c.view_mut(), y });
    }

    /// Runs the rows of `part` in so many blocks.
    fn split(self: &Arc<Self>, call: &LstmCall<'_>, blocks: usize, plan: Plan, part: Part<'_>) {
        if blocks <= 1 {
            return self.run_block(call, plan, part);
        }
        let Part { first, x, h, c, y } = part;
        let rows = x.len_of(Axis(1));
        let middle = rows * (blocks / 2) / blocks;
        let (x_0, x_1) = x.split_at(Axis(1), middle);
        let (h_0, h_1) = h.split_at(Axis(1), middle);
        let (c_0, c_1) = c.split_at(Axis(1), middle);
        let (y_0, y_1) = y.map(|y| y.split_at(Axis(1), middle)).unzip();
        rayon::join(
            || self.split(call, blocks / 2, plan, Part { first, x: x_0, h: h_0, c: c_0, y: y_0 }),
            || self.split(call, blocks - blocks / 2, plan, Part { first: first + middle, x: x_1, h: h_1, c: c_1, y: y_1 }),
        );
    }

    fn run_block(self: &Arc<Self>, call: &LstmCall<'_>, plan: Plan, part: Part<'_>) {
        let Part { first, x, mut h, mut c, mut y } = part;
        let rows = x.len_of(Axis(1));
        let mut scratch = self.take();
        let Scratch { order, lens, .. } = &mut scratch;
        order.clear();
        order.extend(0..rows);
        order.sort_unstable_by_key(|&row| (Reverse(call.len(first + row)), row));
        lens.clear();
        lens.extend(order.iter().map(|&row| call.len(first + row)));
        let longest = lens.first().copied().unwrap_or(0);
        let chunk = (CHUNK_ROWS / rows.max(1)).clamp(1, longest.max(1));
        let shape = Shape { rows, chunk, num_chunks: longest.div_ceil(chunk) };
        let Plan { members, is_short, .. } = plan;
        let crew = (members > 1).then(|| Crew::hire(members - 1, is_short)).flatten();
        self.make_room(&mut scratch, shape, if crew.is_some() { self.cells.len() } else { 1 });
        self.read_state(&mut scratch, &h.view(), &c.view());
        if let Some(crew) = crew {
            let team = lock(&self.teams).pop().unwrap_or_else(|| Arc::new(Team::new(self)));
            team.prepare(self, members, &x, &scratch, shape);
            crew.post(&team, members - 1);
            team.lead(self, &mut scratch, |scratch, member| Block { stack: self, x: x.view(), shape, scratch, member }.walk(y.as_mut()));
            lock(&self.teams).push(team);
        } else {
            Block { stack: self, x, shape, scratch: &mut scratch, member: &mut Member::alone() }.walk(y.as_mut());
        }
        self.write_state(&scratch, &mut h, &mut c);
        self.give(scratch);
    }

    fn take(&self) -> Scratch {
        lock(&self.spare).pop().unwrap_or_default()
    }

    fn give(&self, scratch: Scratch) {
        lock(&self.spare).push(scratch);
    }

    /// Whether a cell walks backwards over time.
    fn is_reversed(&self, number: usize) -> bool {
        self.config.is_reversed(number % self.config.num_directions())
    }

    /// H, rounded up to whole vectors.
    fn wide_hidden(&self) -> usize {
        self.config.hidden_size.next_multiple_of(self.lanes)
    }

    /// From one row of hidden states to the next: R, rounded up to what a panel makes.
    fn stride(&self) -> usize {
        match self.config.proj_size {
            Some(proj) => proj.next_multiple_of(4 * self.lanes),
            None => self.wide_hidden(),
        }
    }
}
