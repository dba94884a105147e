//! Calls of a stack: through it in blocks of rows and segments of time.

use std::cmp::Reverse;
use std::ops::Range;
use std::time::{Duration, Instant};

use ndarray::{ArrayView3, s};

use crate::error::{Error, Result};
use crate::gpu::plan::{self, BufferId, Request};
use crate::gpu::region::beyond_a_binding;
use crate::gpu::relayout::Place;
use crate::gpu::state::{GpuState, StateBlock};
use crate::gpu::tensor::DeviceTensor;
use crate::gpu::timer::{Timer, elapsed};
use crate::gpu::transfer::{Remap, Writer, as_floats, clear_y, store_state, store_y};
use crate::gpu::{GpuLstm, Wait};
use crate::measure::CallProfile;
use crate::network::Strided;
use crate::network::{Direction, InitialState, LstmCall, LstmConfig, LstmResults};

const F32: u64 = size_of::<f32>() as u64;

/// Where the input of a call is, `[T, N, I]`.
#[derive(Clone, Copy)]
pub(crate) enum Source<'a> {
    /// on the host, any strides
    Host(ArrayView3<'a, f32>),
    /// on the device, any layout
    Device(&'a DeviceTensor),
}

/// A call whose input or output may stay on the device.
#[derive(Clone)]
pub(crate) struct DeviceCall<'a> {
    /// where the input is
    pub(crate) x: Source<'a>,
    /// `[N]`, each at most T; `None`: every row has length T
    pub(crate) sequence_lens: Option<&'a [u32]>,
    /// whether `y` stays on the device, too
    pub(crate) keeps_y: bool,
}

impl<'a> From<&'a LstmCall<'_>> for DeviceCall<'a> {
    fn from(call: &'a LstmCall<'_>) -> Self {
        Self { x: Source::Host(call.x.view()), sequence_lens: call.sequence_lens, keeps_y: false }
    }
}

impl DeviceCall<'_> {
    /// T, N, I
    fn dim(&self) -> Result<(usize, usize, usize)> {
        match self.x {
            Source::Host(x) => Ok(x.dim()),
            Source::Device(x) => match *x.shape() {
                [seq_len, batch, input_size] => Ok((seq_len, batch, input_size)),
                ref found => Err(Error::shape(format!("tensor `x`: expected [seq_len, batch, input_size], found {found:?}"))),
            },
        }
    }

    /// The length of row `n`.
    fn len(&self, n: usize, seq_len: usize) -> usize {
        self.sequence_lens.map_or(seq_len, |lens| lens[n] as usize)
    }
}

/// How `y` stays on the device.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kept {
    /// not at all
    Not,
    /// where the only segment of the only block makes it
    Made,
    /// gathered from several, the buffer cleared first where not all of it is made
    Gathered { clears: bool },
}

/// A part of a call: some rows, some steps.
struct Segment<'a, 'v> {
    steps: Range<usize>,
    /// the call's rows, in the order in which the device has them
    rows: &'a [usize],
    /// where the states start, if not with those on the device
    initial: Option<&'a InitialState<'v>>,
    /// whether the final states are those after this segment
    is_last: bool,
}

/// A piece of the upload buffer and where it goes.
struct Copy<'a> {
    from: Range<u64>,
    buffer: &'a wgpu::Buffer,
    offset: u64,
}

impl GpuLstm {
    /// Runs the stack on the states in `state`, which then holds the final ones; where there are `initial` states, from those.
    pub(crate) async fn run(
        &mut self,
        call: &LstmCall<'_>,
        initial: Option<&InitialState<'_>>,
        state: &mut GpuState,
        results: LstmResults<'_>,
        wait: Wait,
    ) -> Result<()> {
        self.run_on_device(&call.into(), initial, state, results, wait).await.map(drop)
    }

    /// Whether `y` of a call can stay on the device.
    pub(crate) fn fits_on_device(&self, batch: usize, seq_len: usize) -> bool {
        let floats = seq_len.checked_mul(batch).and_then(|rows| rows.checked_mul(self.config.y_size()));
        floats.is_some_and(|floats| floats as u64 <= self.device.profile.max_binding_bytes / F32)
    }

    /// As [`GpuLstm::run`], from an input that may be on the device. Where the call keeps `y` there, this returns `y [T, N, D, R]`, and waits for the
    /// device only where results are wanted on the host, or where it would run too far ahead of it.
    ///
    /// # Errors
    /// [`ErrorKind::Limit`](crate::ErrorKind::Limit) where `y` cannot stay on the device, as [`GpuLstm::fits_on_device`] says.
    pub(crate) async fn run_on_device(
        &mut self,
        call: &DeviceCall<'_>,
        initial: Option<&InitialState<'_>>,
        state: &mut GpuState,
        results: LstmResults<'_>,
        wait: Wait,
    ) -> Result<Option<DeviceTensor>> {
        let (seq_len, batch, _) = call.dim()?;
        let ran = self.run_blocks(call, initial, state, results, wait).await;
        ran.map_err(|error| self.call_error(error, [batch, seq_len], |rows| state.choice(rows)))
    }

    async fn run_blocks(
        &mut self,
        call: &DeviceCall<'_>,
        initial: Option<&InitialState<'_>>,
        state: &mut GpuState,
        mut results: LstmResults<'_>,
        wait: Wait,
    ) -> Result<Option<DeviceTensor>> {
        self.runs.begin();
        let (seq_len, batch, input_size) = call.dim()?;
        if input_size != self.config.input_size {
            let rule = format!("[seq_len, batch, input_size] with input_size = {}", self.config.input_size);
            return Err(Error::shape(format!("tensor `x`: expected {rule}, found {:?}", [seq_len, batch, input_size])));
        }
        if let Source::Device(x) = call.x {
            x.check(&self.device)?;
        }
        let mut order = std::mem::take(&mut self.order);
        order.clear();
        order.extend(0..batch);
        let stays = call.keeps_y || matches!(call.x, Source::Device(_));
        if let (Some(lens), Some(_), false) = (call.sequence_lens, initial, stays) {
            // longest first, so that workgroups and blocks of short rows end early; carried states, and tensors on the device, keep their rows
            order.sort_unstable_by_key(|&row| (Reverse(lens[row]), row));
        }
        let mut kept = self.keep(call, state, (seq_len, batch)).await?;
        let mut y = BufferId::Y;
        for block in &mut state.blocks {
            let (rows, mut initial) = (&order[block.rows.clone()], initial);
            let live = longest(call, rows, seq_len);
            if let Some(y) = &mut results.y {
                clear_y(y.slice_mut(s![live.., .., .., ..]), rows);
            }
            let mut segments = self.segments(rows.len(), live)?.peekable();
            while let Some(steps) = segments.next() {
                let segment = Segment { steps, rows, initial: initial.take(), is_last: segments.peek().is_none() };
                y = self.run_segment(call, &segment, block, &mut results, kept, wait).await?;
                if let Kept::Gathered { clears } = &mut kept {
                    *clears = false;
                }
            }
        }
        self.order = order;
        let shape = [seq_len, batch, self.config.num_directions(), self.config.out_size()];
        let y = match kept {
            Kept::Not => return Ok(None),
            Kept::Made => y,
            Kept::Gathered { .. } => BufferId::Y,
        };
        Ok(Some(self.runs.tensor(&self.device, &self.buffers[&y], Strided::contiguous(&shape))))
    }

    /// Decides how `y` stays on the device, and makes room for it.
    async fn keep(&mut self, call: &DeviceCall<'_>, state: &GpuState, (seq_len, batch): (usize, usize)) -> Result<Kept> {
        if !call.keeps_y {
            return Ok(Kept::Not);
        }
        if !self.fits_on_device(batch, seq_len) {
            let (need, allowed) = (self.y_bytes(batch, seq_len), self.device.profile.max_binding_bytes);
            return Err(beyond_a_binding("y [T, N, D*R]", need, allowed));
        }
        // rows keep their places in a call that keeps y
        let is_whole = |block: &StateBlock| {
            let rows: Vec<usize> = block.rows.clone().collect();
            longest(call, &rows, seq_len) == seq_len
        };
        let whole = state.blocks.iter().all(is_whole);
        if whole && state.blocks.len() == 1 && self.segments(batch, seq_len)?.count() == 1 {
            return Ok(Kept::Made);
        }
        let bytes = self.y_bytes(batch, seq_len);
        if self.buffers.get(&BufferId::Y).is_none_or(|buffer| buffer.size() < bytes) {
            self.relayout.forget();
            self.buffers.remove(&BufferId::Y);
            let buffer = self.device.storage_buffer(&BufferId::Y.name(), bytes).await?;
            self.buffers.insert(BufferId::Y, buffer);
        }
        Ok(Kept::Gathered { clears: !whole })
    }

    fn y_bytes(&self, batch: usize, seq_len: usize) -> u64 {
        (seq_len as u64).saturating_mul((batch * self.config.y_size()) as u64).saturating_mul(F32)
    }

    /// Segments of time in the order in which they run: a reverse stack starts with the last one.
    fn segments(&self, rows: usize, seq_len: usize) -> Result<impl Iterator<Item = Range<usize>> + use<>> {
        let steps = self.split(rows, seq_len)?.steps;
        let (number, reversed) = (seq_len.div_ceil(steps), self.config.direction == Direction::Reverse);
        let segment = move |place: usize| {
            let start = steps * if reversed { number - 1 - place } else { place };
            start..seq_len.min(start + steps)
        };
        Ok((0..number).map(segment))
    }

    /// Runs a segment; returns where `y` of it is.
    async fn run_segment(
        &mut self,
        call: &DeviceCall<'_>,
        segment: &Segment<'_, '_>,
        block: &mut StateBlock,
        results: &mut LstmResults<'_>,
        kept: Kept,
        wait: Wait,
    ) -> Result<BufferId> {
        if segment.initial.is_some() {
            block.slot = 0;
        }
        let started = Instant::now();
        let (steps, rows) = (segment.steps.clone(), segment.rows);
        let (seq_len, batch, _) = call.dim()?;
        let ragged = rows.iter().any(|&row| call.len(row, seq_len) < steps.end);
        let request = Request { batch: rows.len(), seq_len: steps.len(), ragged, start_slot: block.slot };
        let prepared = self.prepare(request, block.choice).await?;
        self.check_sizes(&self.plans[prepared].plan, &block.buffer)?;
        let (num_submits, y) = (self.plans[prepared].plan.submits.len(), self.plans[prepared].plan.y);
        let mut timestamp_bytes = 0;
        if let Some(timer) = &mut self.timer {
            timer.reserve(&self.device, num_submits).await?;
            timestamp_bytes = Timer::bytes(num_submits);
        }
        let mut upload = None;
        if matches!(call.x, Source::Host(_)) || call.sequence_lens.is_some() || segment.initial.is_some_and(|initial| !initial.is_zero()) {
            upload = Some(self.upload.take(&self.device, self.upload_bytes(rows.len(), steps.len()), wait).await?);
        }
        let mut download = None;
        let wanted = results.y.is_some() || (segment.is_last && (results.h_n.is_some() || results.c_n.is_some()));
        if wanted || timestamp_bytes > 0 {
            download = Some(self.download.take(&self.device, self.download_bytes(rows.len(), steps.len()) + timestamp_bytes).await?);
        }
        let x_copy = self.x_copy(call, segment, block)?;
        if let Some((from, to)) = &x_copy {
            self.relayout.prepare(&self.device, from, &Place { buffer: &self.buffers[&BufferId::X], layout: to.clone() }).await?;
        }
        let y_size = self.config.y_size();
        let y_copy = matches!(kept, Kept::Gathered { .. }).then(|| {
            let whole = Strided::contiguous(&[seq_len, batch, y_size]);
            [Strided::contiguous(&[steps.len(), rows.len(), y_size]), whole.part(0, steps.clone()).part(1, block.rows.clone())]
        });
        if let Some([from, to]) = &y_copy {
            let place = |id: BufferId, layout: &Strided| Place { buffer: &self.buffers[&id], layout: layout.clone() };
            self.relayout.prepare(&self.device, &place(y, from), &place(BufferId::Y, to)).await?;
        }

        let (mut remap, mut last, mut submitted, mut waited, mut written) = (None, None, None, Duration::ZERO, Duration::ZERO);
        let (mut copied, mut stamped) = (0, 0);
        for number in 0..num_submits {
            let plan = &self.plans[prepared].plan;
            let mut encoder = self.device.encoder();
            if number == 0 {
                if kept == (Kept::Gathered { clears: true }) {
                    encoder.clear_buffer(&self.buffers[&BufferId::Y], 0, None);
                }
                let since = Instant::now();
                self.encode_inputs(&mut encoder, upload.as_deref(), call, segment, block)?;
                written = since.elapsed();
                if let Some((from, to)) = &x_copy {
                    let to = Place { buffer: &self.buffers[&BufferId::X], layout: to.clone() };
                    self.relayout.encode(&self.device, &mut encoder, from, &to)?;
                }
            }
            self.plans[prepared].encode(&mut encoder, number, &block.bind_group, self.timer.as_ref());
            if number + 1 == num_submits {
                block.slot = plan.end_slot();
                if let Some([from, to]) = &y_copy {
                    let place = |id: BufferId, layout: &Strided| Place { buffer: &self.buffers[&id], layout: layout.clone() };
                    self.relayout.encode(&self.device, &mut encoder, &place(y, from), &place(BufferId::Y, to))?;
                }
                if let Some(download) = &download {
                    copied = self.encode_results(&mut encoder, download, &self.buffers[&plan.y], segment, block, results);
                    stamped = self.timer.as_ref().map_or(0, |timer| timer.encode(&mut encoder, num_submits, download, copied));
                }
            }
            block.moved = true;
            let submit = self.device.submit(encoder).await?;
            submitted.get_or_insert_with(Instant::now);
            if number == 0 {
                // the inputs are on their way: the buffer is the host's again as soon as they have arrived
                remap = upload.as_ref().map(|upload| Remap::new(upload, submit.clone()));
            }
            last = Some(submit);
            let since = Instant::now();
            self.device.keep_up(wait).await?;
            waited += since.elapsed();
        }
        let (Some(last), Some(submitted)) = (last, submitted) else { return Ok(y) };
        let encode = started.elapsed() - waited;
        let (mut done, mut device, mut waits) = (Instant::now(), None, true);
        if let Some(download) = download {
            let store = |bytes: &[u8]| {
                done = Instant::now();
                let (floats, timestamps) = bytes.split_at(bytes.len() - stamped as usize);
                store_results(results, segment, &self.config, &as_floats(floats));
                device = (stamped > 0).then(|| elapsed(timestamps, self.device.queue.get_timestamp_period()));
            };
            self.device.read(&download, copied + stamped, last, wait, store).await?;
            self.download.put(download);
        } else if kept == Kept::Not || self.options.profile {
            self.device.wait(last, wait).await?;
            done = Instant::now();
        } else {
            waits = false;
        }
        let submit_to_done = if waits { done - submitted } else { Duration::ZERO };
        self.profile.add(&CallProfile { encode, upload: written, submit_to_done, device, readback: done.elapsed() });
        if let (Some(upload), Some(remap)) = (upload, remap) {
            self.upload.put(&self.device, upload, remap, waits)?;
        }
        Ok(y)
    }

    /// What of an input on the device a segment reads, and where it is to stand in `X`.
    fn x_copy<'c>(&self, call: &DeviceCall<'c>, segment: &Segment<'_, '_>, block: &StateBlock) -> Result<Option<(Place<'c>, Strided)>> {
        let Source::Device(x) = call.x else { return Ok(None) };
        let layout = x.layout().part(0, segment.steps.clone()).part(1, block.rows.clone());
        let to = Strided::contiguous(&layout.shape);
        Ok(Some((Place { buffer: x.buffer(), layout }, to)))
    }

    /// Writes the inputs of a segment that come from the host into `upload` and encodes the copies that bring them to their places.
    fn encode_inputs(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        upload: Option<&wgpu::Buffer>,
        call: &DeviceCall<'_>,
        segment: &Segment<'_, '_>,
        block: &StateBlock,
    ) -> Result<()> {
        let (steps, rows) = (&segment.steps, segment.rows);
        let ranges = block.ranges(&self.config);
        let states = segment.initial.map(|initial| [(&initial.h, ranges.h), (&initial.c, ranges.c)]);
        for (given, place) in states.iter().flatten() {
            if given.is_none() {
                encoder.clear_buffer(&block.buffer, place.start, Some(place.end - place.start));
            }
        }
        let Some(upload) = upload else { return Ok(()) };
        let mut writer = Writer::new(&self.device, upload)?;
        let mut copies = Vec::with_capacity(4);
        if let Source::Host(x) = call.x {
            let from = writer.rows(&x.slice(s![steps.clone(), .., ..]), rows);
            copies.push(Copy { from, buffer: &self.buffers[&BufferId::X], offset: 0 });
        }
        if let Some(lens) = call.sequence_lens {
            // a length counts from the start of the call, a segment's steps from its own
            let len = |&row: &usize| u32::try_from((lens[row] as usize).saturating_sub(steps.start).min(steps.len())).unwrap_or(u32::MAX);
            let from = writer.u32s(rows.iter().map(len));
            copies.push(Copy { from, buffer: &self.buffers[&BufferId::Lens], offset: 0 });
        }
        for (given, place) in states.iter().flatten() {
            if let Some(given) = given {
                copies.push(Copy { from: writer.rows(given, rows), buffer: &block.buffer, offset: place.start });
            }
        }
        drop(writer);
        upload.unmap();
        for Copy { from, buffer, offset } in copies {
            encoder.copy_buffer_to_buffer(upload, from.start, buffer, offset, from.end - from.start);
        }
        Ok(())
    }

    /// Encodes the copies of what is wanted of a segment's results to `download`; returns how many bytes that are.
    fn encode_results(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        download: &wgpu::Buffer,
        y: &wgpu::Buffer,
        segment: &Segment<'_, '_>,
        block: &StateBlock,
        results: &LstmResults<'_>,
    ) -> u64 {
        let ranges = block.ranges(&self.config);
        let y_bytes = (segment.steps.len() * segment.rows.len() * self.config.y_size()) as u64 * F32;
        let parts = [
            (results.y.is_some(), y, 0..y_bytes),
            (segment.is_last && results.h_n.is_some(), &block.buffer, ranges.h),
            (segment.is_last && results.c_n.is_some(), &block.buffer, ranges.c),
        ];
        let mut end = 0;
        for (_, buffer, part) in parts.into_iter().filter(|(wanted, ..)| *wanted) {
            encoder.copy_buffer_to_buffer(buffer, part.start, download, end, part.end - part.start);
            end += part.end - part.start;
        }
        end
    }
}

/// Steps of a call of `seq_len` that `rows` of it run.
fn longest(call: &DeviceCall<'_>, rows: &[usize], seq_len: usize) -> usize {
    live_steps(rows.iter().map(|&row| call.len(row, seq_len)).max().unwrap_or(0), seq_len)
}

/// Steps of a call of `seq_len` that rows of at most `longest` steps need, rounded up to an eighth of the call, so that a few plans serve calls of any
/// lengths. A step at least: it hands on the states where there is none to take.
fn live_steps(longest: usize, seq_len: usize) -> usize {
    longest.max(1).next_multiple_of((seq_len / 8).max(1)).min(seq_len)
}

/// Puts what [`GpuLstm::encode_results`] copied into its places.
fn store_results(results: &mut LstmResults<'_>, segment: &Segment<'_, '_>, config: &LstmConfig, mut floats: &[f32]) {
    let (steps, rows) = (segment.steps.clone(), segment.rows);
    let mut take = |len: usize| floats.split_off(..len).expect("the copy has the size of the results");
    if let Some(y) = &mut results.y {
        let from = take(steps.len() * rows.len() * config.y_size());
        store_y(y.slice_mut(s![steps, .., .., ..]), rows, from);
    }
    let (h_len, c_len) = plan::state_lens(config, rows.len());
    for (result, len) in [(&mut results.h_n, h_len), (&mut results.c_n, c_len)] {
        if let Some(result) = result.as_mut().filter(|_| segment.is_last) {
            store_state(result.view_mut(), rows, take(len));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::live_steps;

    #[test]
    fn padding_is_cut() {
        for (longest, seq_len, expected) in [(0, 5, 1), (3, 5, 3), (5, 5, 5), (9, 80, 10), (10, 80, 10), (11, 80, 20), (83, 83, 83), (81, 83, 83)] {
            assert_eq!(live_steps(longest, seq_len), expected, "{longest} of {seq_len}");
        }
        for seq_len in 1..200 {
            let cuts: std::collections::BTreeSet<_> = (0..=seq_len).map(|longest| live_steps(longest, seq_len)).collect();
            assert!(cuts.len() <= 16, "{seq_len} steps have {} plans", cuts.len());
        }
    }
}
