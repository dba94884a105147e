//! A block of rows through the whole stack, chunk of steps by chunk of steps.
//!
//! In wave `w` layer `l` walks chunk `w - l` of a stack that goes one way; a layer of a bidirectional stack starts when the one below is done.
//! A member alone takes one cell of a wave after the other, so that its weights stay in cache; the members of a team, each with panels of its
//! own, take them all step by step and exchange what they made after every step.

use std::ops::Range;

use ndarray::{ArrayView3, ArrayViewMut4, Axis, s};

use super::Stack;
use super::cell::Update;
use super::scratch::{CellScratch, Gates, Scratch, Shape};
use super::team::Member;
use crate::cpu::panels::{Panels, Rows, Sums, most_rows, multiply};

/// A block, or a member's part of one.
pub(super) struct Block<'a, 'm> {
    pub(super) stack: &'a Stack,
    /// `[T, N, I]`
    pub(super) x: ArrayView3<'a, f32>,
    pub(super) shape: Shape,
    pub(super) scratch: &'a mut Scratch,
    pub(super) member: &'a mut Member<'m>,
}

/// What the members of a team exchange.
#[derive(Clone, Copy)]
enum Made {
    /// hidden states before projection
    Hidden,
    /// outputs
    Outputs,
}

impl Block<'_, '_> {
    /// Walks over all steps from the states in the scratch, which then holds the last ones, and writes `y [T, N, D, R]` where it is wanted.
    pub(super) fn walk(&mut self, mut y: Option<&mut ArrayViewMut4<'_, f32>>) {
        let config = &self.stack.config;
        let (layers, dirs, chunks) = (config.num_layers, config.num_directions(), self.shape.num_chunks);
        let lag = self.lag();
        for wave in 0..chunks + (layers - 1) * lag {
            let first = (wave + 1).saturating_sub(chunks).div_ceil(lag);
            let active = first..layers.min(wave / lag + 1);
            let cells = active.start * dirs..active.end * dirs;
            if self.member.is_alone() {
                cells.for_each(|number| self.advance(number..number + 1, wave));
            } else {
                self.advance(cells, wave);
            }
            if let Some(y) = y.as_mut().filter(|_| active.contains(&(layers - 1))) {
                (0..dirs).for_each(|dir| self.write_y(dir, self.chunk((layers - 1) * dirs + dir, wave), y));
            }
        }
        if let Some(y) = y {
            let longest = self.longest();
            y.slice_mut(s![longest.., .., .., ..]).fill(0.0);
        }
    }

    /// Waves from the start of a layer to that of the next one.
    fn lag(&self) -> usize {
        if self.stack.config.num_directions() > 1 { self.shape.num_chunks } else { 1 }
    }

    /// The chunk that cell `number` walks in a wave.
    fn chunk(&self, number: usize, wave: usize) -> usize {
        wave - number / self.stack.config.num_directions() * self.lag()
    }

    /// Steps of the longest row.
    fn longest(&self) -> usize {
        self.scratch.lens.first().copied().unwrap_or(0)
    }

    /// Steps of a chunk, counted in the order in which they are made.
    fn steps(&self, chunk: usize) -> Range<usize> {
        chunk * self.shape.chunk..self.longest().min((chunk + 1) * self.shape.chunk)
    }

    /// The time of a step.
    fn time(&self, number: usize, step: usize) -> usize {
        if self.stack.is_reversed(number) { self.longest() - 1 - step } else { step }
    }

    /// Rows that have a step at time `t`: the first ones, as the longest come first.
    fn live(&self, t: usize) -> usize {
        self.scratch.lens.partition_point(|len| *len > t)
    }

    /// Whether every member makes a part of a projection. One without a part would show nothing, and nobody would wait for it: the others could
    /// run ahead and write over what it has not seen. With fewer panels than members, each makes all of it.
    fn shares_projections(&self) -> bool {
        self.stack.cells.iter().filter_map(|cell| cell.weight_hr.as_ref()).all(|weight_hr| weight_hr.count() >= self.member.count())
    }

    /// The panels of a projection that this member makes.
    fn own_outputs(&self, weight_hr: &Panels) -> Range<usize> {
        if self.shares_projections() { self.member.share(weight_hr.count()) } else { 0..weight_hr.count() }
    }

    /// Where the gates of cell `number` lie: a member alone has one cell in work at a time.
    fn gates_of(&self, number: usize) -> usize {
        if self.member.is_alone() { 0 } else { number }
    }

    /// Whether the chunk that a cell walks in a wave has so many steps.
    fn has_step(&self, number: usize, wave: usize, local: usize) -> bool {
        local < self.steps(self.chunk(number, wave)).len()
    }

    /// Walks one chunk of each of these cells.
    fn advance(&mut self, cells: Range<usize>, wave: usize) {
        for number in cells.clone() {
            self.input_gates(number, self.chunk(number, wave));
        }
        for local in 0..self.shape.chunk {
            if !cells.clone().any(|number| self.has_step(number, wave, local)) {
                break;
            }
            for number in cells.clone() {
                if self.has_step(number, wave, local) {
                    self.step(number, self.chunk(number, wave), local);
                }
            }
            if self.stack.config.proj_size.is_some() {
                self.exchange(cells.clone(), wave, local, Made::Hidden);
                for number in cells.clone() {
                    if self.has_step(number, wave, local) {
                        self.project(number, self.chunk(number, wave), local);
                    }
                }
            }
            if self.stack.config.proj_size.is_none() || self.shares_projections() {
                self.exchange(cells.clone(), wave, local, Made::Outputs);
            }
        }
        for number in cells {
            self.keep_h(number, self.chunk(number, wave));
        }
    }

    /// `weight_ih @ x + bias` for all steps and rows of a chunk.
    fn input_gates(&mut self, number: usize, chunk: usize) {
        let cell = &self.stack.cells[number];
        let (steps, features) = (self.steps(chunk), self.stack.config.layer_input_size(number / self.stack.config.num_directions()));
        let gates_of = self.gates_of(number);
        let mut count = 0;
        self.scratch.gates[gates_of].starts.clear();
        for step in steps {
            self.scratch.gates[gates_of].starts.push(count);
            let t = self.time(number, step);
            let live = self.live(t);
            for row in 0..live {
                self.copy_input(number, t, row, (count + row) * features..(count + row + 1) * features);
            }
            count += live;
        }
        let width = cell.weight_ih.width();
        let sums = Sums { row_stride: width, panel_stride: self.shape.chunk * self.shape.rows * width };
        let rows = Rows { data: &self.scratch.input, stride: features, count };
        let gates = &mut self.scratch.gates[gates_of].sums;
        for panel in self.member.share(cell.weight_ih.count()) {
            let bias = &cell.bias[panel * width..(panel + 1) * width];
            gates[panel * sums.panel_stride..][..count * width].chunks_exact_mut(width).for_each(|sums| sums.copy_from_slice(bias));
            multiply(&cell.weight_ih, panel..panel + 1, false, rows, gates, sums);
        }
    }

    /// The input of one row and step of cell `number`: of the call, or what the layer below made.
    fn copy_input(&mut self, number: usize, t: usize, row: usize, to: Range<usize>) {
        let dirs = self.stack.config.num_directions();
        let (layer, out) = (number / dirs, self.stack.config.out_size());
        let longest = self.longest();
        let Scratch { order, outputs, input, .. } = &mut *self.scratch;
        let to = &mut input[to];
        if layer == 0 {
            let from = self.x.index_axis(Axis(0), t);
            let from = from.index_axis(Axis(0), order[row]);
            match from.as_slice() {
                Some(from) => to.copy_from_slice(from),
                None => to.iter_mut().zip(from).for_each(|(to, &from)| *to = from),
            }
            return;
        }
        for (dir, to) in to.chunks_exact_mut(out).enumerate() {
            let below = (layer - 1) * dirs + dir;
            let step = if self.stack.is_reversed(below) { longest - 1 - t } else { t };
            let outputs = &outputs[self.stack.outputs_of(below)];
            let chunk = step / self.shape.chunk % self.stack.kept_outputs(self.shape);
            let place = (step % self.shape.chunk * self.shape.rows + row) * self.stack.stride();
            to.copy_from_slice(&outputs[chunk][place..place + out]);
        }
    }

    /// The recurrent product and the cell for this member's panels, for the rows that have the step.
    fn step(&mut self, number: usize, chunk: usize, local: usize) {
        let t = self.time(number, chunk * self.shape.chunk + local);
        let (live, gates_of) = (self.live(t), self.gates_of(number));
        // walking backwards, more and more rows begin
        let begun = if self.stack.is_reversed(number) && local > 0 { self.live(t + 1) } else { live };
        let (stack, Shape { rows, .. }) = (self.stack, self.shape);
        let (cell, stride, kept) = (&stack.cells[number], stack.stride(), stack.kept_outputs(self.shape));
        let Scratch { cells, outputs, gates, .. } = &mut *self.scratch;
        let CellScratch { h, c, hidden } = &mut cells[number];
        let (before, now) = outputs[stack.outputs_of(number)][chunk % kept].split_at_mut(local * rows * stride);
        let before: &[f32] = match local {
            0 => h,
            _ => {
                let before = &mut before[(local - 1) * rows * stride..];
                before[begun * stride..live * stride].copy_from_slice(&h[begun * stride..live * stride]);
                before
            }
        };
        let (h_next, h_stride) = if stack.config.proj_size.is_some() { (&mut hidden[..], stack.wide_hidden()) } else { (now, stride) };
        let Gates { sums: gates, starts } = &mut gates[gates_of];
        let width = cell.weight_hh.width();
        let sums = Sums { row_stride: width, panel_stride: self.shape.chunk * rows * width };
        let gates = &mut gates[starts[local] * width..];
        let (which, backwards) = (self.member.share(cell.weight_hh.count()), local % 2 == 1);
        let a = Rows { data: before, stride, count: live };
        // the sums of many rows are finished panel by panel, while they are in cache
        let at_once = if live <= most_rows(stack.lanes) { which.len().max(1) } else { 1 };
        let groups = which.len() / at_once;
        for group in 0..groups {
            let group = if backwards { groups - 1 - group } else { group };
            let which = which.start + group * at_once..which.start + (group + 1) * at_once;
            multiply(&cell.weight_hh, which.clone(), backwards, a, gates, sums);
            cell.update(Update { which, rows: live, gates, gates_stride: sums.panel_stride, c, c_stride: rows * stack.lanes, h: h_next, h_stride });
        }
    }

    /// `weight_hr @ hidden`, bounded, for this member's outputs.
    fn project(&mut self, number: usize, chunk: usize, local: usize) {
        let live = self.live(self.time(number, chunk * self.shape.chunk + local));
        let (stack, rows) = (self.stack, self.shape.rows);
        let (cell, stride, kept) = (&stack.cells[number], stack.stride(), stack.kept_outputs(self.shape));
        let Some(weight_hr) = &cell.weight_hr else { return };
        let which = self.own_outputs(weight_hr);
        let Scratch { cells, outputs, .. } = &mut *self.scratch;
        let hidden = &cells[number].hidden;
        let out = &mut outputs[stack.outputs_of(number)][chunk % kept][local * rows * stride..(local + 1) * rows * stride];
        let width = weight_hr.width();
        let own = which.start * width..which.end * width;
        for row in out.chunks_exact_mut(stride).take(live) {
            row[own.clone()].fill(0.0);
        }
        let a = Rows { data: hidden, stride: stack.wide_hidden(), count: live };
        multiply(weight_hr, which, local % 2 == 1, a, out, Sums { row_stride: stride, panel_stride: width });
        if let Some(bound) = cell.proj_clip {
            for value in out.chunks_exact_mut(stride).take(live).flat_map(|row| &mut row[own.clone()]) {
                *value = value.clamp(-bound, bound);
            }
        }
    }

    /// Gives the team what this member made in a step, and takes what the others made.
    fn exchange(&mut self, cells: Range<usize>, wave: usize, local: usize, made: Made) {
        if self.member.is_alone() {
            return;
        }
        // everything is shown before the first look
        for takes in [false, true] {
            for number in cells.clone() {
                if self.has_step(number, wave, local) {
                    let at = (self.chunk(number, wave), local);
                    let (live, own) = self.made(number, wave, local, made);
                    let (values, stride) = values(self.stack, self.shape, self.scratch, number, at, made);
                    if takes { self.member.look(number, values, stride, live, own) } else { self.member.show(number, values, stride, live, own) }
                }
            }
        }
        self.member.end_exchange();
    }

    /// What all members make in a step: the rows that have it, and the columns that are this member's.
    fn made(&self, number: usize, wave: usize, local: usize, made: Made) -> (usize, Range<usize>) {
        let (stack, cell) = (self.stack, &self.stack.cells[number]);
        let live = self.live(self.time(number, self.chunk(number, wave) * self.shape.chunk + local));
        let (own, width) = match (&cell.weight_hr, made) {
            (Some(weight_hr), Made::Outputs) => (self.own_outputs(weight_hr), weight_hr.width()),
            _ => (self.member.share(cell.weight_hh.count()), stack.lanes),
        };
        (live, own.start * width..own.end * width)
    }

    /// The states after a chunk, row by row where its last step was.
    fn keep_h(&mut self, number: usize, chunk: usize) {
        let (steps, rows, stride) = (self.steps(chunk), self.shape.rows, self.stack.stride());
        let reversed = self.stack.is_reversed(number);
        let kept = self.stack.kept_outputs(self.shape);
        let begun = self.live(self.time(number, if reversed { steps.end - 1 } else { steps.start }));
        let Scratch { lens, cells, outputs, .. } = &mut *self.scratch;
        let (h, outputs) = (&mut cells[number].h, &outputs[self.stack.outputs_of(number)]);
        for row in 0..begun {
            let last = if reversed { steps.end } else { steps.end.min(lens[row]) } - 1 - steps.start;
            let place = (last * rows + row) * stride;
            h[row * stride..(row + 1) * stride].copy_from_slice(&outputs[chunk % kept][place..place + stride]);
        }
    }

    /// The outputs of a chunk of the last layer.
    fn write_y(&self, dir: usize, chunk: usize, y: &mut ArrayViewMut4<'_, f32>) {
        let config = &self.stack.config;
        let number = (config.num_layers - 1) * config.num_directions() + dir;
        let (rows, stride, out) = (self.shape.rows, self.stack.stride(), config.out_size());
        let outputs = &self.scratch.outputs[self.stack.outputs_of(number)][chunk % self.stack.kept_outputs(self.shape)];
        for (local, step) in self.steps(chunk).enumerate() {
            let t = self.time(number, step);
            let live = self.live(t);
            for (row, &n) in self.scratch.order.iter().enumerate() {
                let mut y = y.index_axis_mut(Axis(0), t);
                let mut y = y.index_axis_mut(Axis(0), n);
                let mut y = y.index_axis_mut(Axis(0), dir);
                let place = (local * rows + row) * stride;
                match y.as_slice_mut() {
                    _ if row >= live => y.fill(0.0),
                    Some(y) => y.copy_from_slice(&outputs[place..place + out]),
                    None => y.iter_mut().zip(&outputs[place..place + out]).for_each(|(y, &value)| *y = value),
                }
            }
        }
    }
}

/// What a cell made in a step of a chunk, and from one row to the next.
fn values<'a>(
    stack: &Stack,
    shape: Shape,
    scratch: &'a mut Scratch,
    number: usize,
    (chunk, local): (usize, usize),
    made: Made,
) -> (&'a mut [f32], usize) {
    let step = shape.rows * stack.stride();
    match made {
        Made::Hidden => (&mut scratch.cells[number].hidden, stack.wide_hidden()),
        Made::Outputs => {
            let outputs = &mut scratch.outputs[stack.outputs_of(number)][chunk % stack.kept_outputs(shape)];
            (&mut outputs[local * step..(local + 1) * step], stack.stride())
        }
    }
}
