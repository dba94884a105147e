//! Calls of a stack: through it in blocks of rows and segments of time.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::ops::Range;
use std::time::{Duration, Instant};

use ndarray::s;

use crate::error::Result;
use crate::gpu::plan::{self, BufferId, Request};
use crate::gpu::state::{GpuState, StateBlock};
use crate::gpu::timer::{Timer, elapsed};
use crate::gpu::transfer::{Writer, as_floats, clear_y, store_state, store_y};
use crate::gpu::{GpuDevice, GpuLstm, Wait};
use crate::measure::CallProfile;
use crate::network::{Direction, InitialState, LstmCall, LstmConfig, LstmResults};

/// Submits that may be under way before the host waits for the first of them.
const MAX_SUBMITS_AHEAD: usize = 3;

const F32: u64 = size_of::<f32>() as u64;

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
        mut results: LstmResults<'_>,
        wait: Wait,
    ) -> Result<()> {
        let mut order = std::mem::take(&mut self.order);
        order.clear();
        order.extend(0..call.batch());
        if let (Some(lens), Some(_)) = (call.sequence_lens, initial) {
            // longest first, so that workgroups and blocks of short rows end early; carried states keep their rows
            order.sort_unstable_by_key(|&row| (Reverse(lens[row]), row));
        }
        for block in &mut state.blocks {
            let (rows, mut initial) = (&order[block.rows.clone()], initial);
            let seq_len = live_steps(rows.iter().map(|&row| call.len(row)).max().unwrap_or(0), call.seq_len());
            if let Some(y) = &mut results.y {
                clear_y(y.slice_mut(s![seq_len.., .., .., ..]), rows);
            }
            let mut segments = self.segments(rows.len(), seq_len)?.peekable();
            while let Some(steps) = segments.next() {
                let segment = Segment { steps, rows, initial: initial.take(), is_last: segments.peek().is_none() };
                self.run_segment(call, &segment, block, &mut results, wait).await?;
            }
        }
        self.order = order;
        Ok(())
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

    async fn run_segment(
        &mut self,
        call: &LstmCall<'_>,
        segment: &Segment<'_, '_>,
        block: &mut StateBlock,
        results: &mut LstmResults<'_>,
        wait: Wait,
    ) -> Result<()> {
        if segment.initial.is_some() {
            block.slot = 0;
        }
        let started = Instant::now();
        let (steps, rows) = (segment.steps.clone(), segment.rows);
        let ragged = rows.iter().any(|&row| call.len(row) < steps.end);
        let request = Request { batch: rows.len(), seq_len: steps.len(), ragged, start_slot: block.slot };
        let prepared = self.prepare(request, block.choice).await?;
        self.check_sizes(&self.plans[prepared].plan, &block.buffer)?;
        let num_submits = self.plans[prepared].plan.submits.len();
        let mut timestamp_bytes = 0;
        if let Some(timer) = &mut self.timer {
            timer.reserve(&self.device, num_submits).await?;
            timestamp_bytes = Timer::bytes(num_submits);
        }
        let upload = self.upload.take(&self.device, self.upload_bytes(rows.len(), steps.len())).await?;
        let download = self.download.take(&self.device, self.download_bytes(rows.len(), steps.len()) + timestamp_bytes).await?;

        let mut under_way = VecDeque::with_capacity(MAX_SUBMITS_AHEAD + 1);
        let (mut remapped, mut submitted, mut waited) = (None, None, Duration::ZERO);
        let (mut copied, mut stamped) = (0, 0);
        for number in 0..num_submits {
            let plan = &self.plans[prepared].plan;
            let mut encoder = self.encoder();
            if number == 0 {
                self.encode_inputs(&mut encoder, &upload, call, segment, block)?;
            }
            self.plans[prepared].encode(&mut encoder, number, &block.bind_group, self.timer.as_ref());
            if number + 1 == num_submits {
                block.slot = plan.end_slot();
                copied = self.encode_results(&mut encoder, &download, &self.buffers[&plan.y], segment, block, results);
                stamped = self.timer.as_ref().map_or(0, |timer| timer.encode(&mut encoder, num_submits, &download, copied));
            }
            under_way.push_back(self.submit(encoder).await?);
            submitted.get_or_insert_with(Instant::now);
            // the inputs are on their way: the buffer is the host's again as soon as they have arrived
            remapped.get_or_insert_with(|| GpuDevice::map(&upload, upload.size(), wgpu::MapMode::Write));
            if under_way.len() > MAX_SUBMITS_AHEAD
                && let Some(index) = under_way.pop_front()
            {
                let since = Instant::now();
                self.device.wait(index, wait).await?;
                waited += since.elapsed();
            }
        }
        let (Some(index), Some(submitted)) = (under_way.pop_back(), submitted) else { return Ok(()) };
        let encode = started.elapsed() - waited;
        let (mut done, mut device) = (Instant::now(), None);
        if copied + stamped > 0 {
            let store = |bytes: &[u8]| {
                done = Instant::now();
                let (floats, timestamps) = bytes.split_at(bytes.len() - stamped as usize);
                store_results(results, segment, &self.config, &as_floats(floats));
                device = (stamped > 0).then(|| elapsed(timestamps, self.device.queue.get_timestamp_period()));
            };
            self.device.read(&download, copied + stamped, index, wait, store).await?;
        } else {
            self.device.wait(index, wait).await?;
            done = Instant::now();
        }
        self.profile.add(&CallProfile { encode, submit_to_done: done - submitted, device, readback: done.elapsed() });
        self.download.put(download);
        if let Some(remapped) = remapped {
            remapped.done().await?;
            self.upload.put(upload);
        }
        Ok(())
    }

    /// Writes the inputs of a segment into `upload` and encodes the copies that bring them to their places.
    fn encode_inputs(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        upload: &wgpu::Buffer,
        call: &LstmCall<'_>,
        segment: &Segment<'_, '_>,
        block: &StateBlock,
    ) -> Result<()> {
        let (steps, rows) = (&segment.steps, segment.rows);
        let mut writer = Writer::new(upload)?;
        let mut copies = Vec::with_capacity(4);
        let from = writer.rows(&call.x.slice(s![steps.clone(), .., ..]), rows);
        copies.push(Copy { from, buffer: &self.buffers[&BufferId::X], offset: 0 });
        if call.sequence_lens.is_some() {
            // a length counts from the start of the call, a segment's steps from its own
            let len = |&row: &usize| u32::try_from(call.len(row).saturating_sub(steps.start).min(steps.len())).unwrap_or(u32::MAX);
            let from = writer.u32s(rows.iter().map(len));
            copies.push(Copy { from, buffer: &self.buffers[&BufferId::Lens], offset: 0 });
        }
        if let Some(initial) = segment.initial {
            let ranges = block.ranges(&self.config);
            for (given, place) in [(&initial.h, ranges.h), (&initial.c, ranges.c)] {
                match given {
                    Some(given) => copies.push(Copy { from: writer.rows(given, rows), buffer: &block.buffer, offset: place.start }),
                    None => encoder.clear_buffer(&block.buffer, place.start, Some(place.end - place.start)),
                }
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

    pub(super) async fn submit(&self, encoder: wgpu::CommandEncoder) -> Result<wgpu::SubmissionIndex> {
        self.device.checked("submit", || self.device.queue.submit([encoder.finish()])).await
    }

    pub(super) fn encoder(&self) -> wgpu::CommandEncoder {
        self.device.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("cellgate") })
    }
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
