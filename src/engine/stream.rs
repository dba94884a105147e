//! Many sequences that start and end on their own, one state each, all on one device.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering};

use ndarray::{Array2, Array3, ArrayD, ArrayView2, ArrayView3, ArrayViewMut4, s};

use crate::engine::room::{check_call, float_bytes};
use crate::engine::runner::NodeState;
use crate::engine::state::host_state;
use crate::engine::{HostState, Session};
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::Wait;
use crate::measure::CallProfile;
use crate::network::{Layout, LstmCall, LstmResults, LstmState, check_room};

/// A place in a [`Stream`] that a sequence holds from [`join`](Stream::join) to [`leave`](Stream::leave).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slot {
    row: usize,
    /// which of all the sequences of all streams it is
    turn: u64,
}

impl Slot {
    /// Its row of the stream.
    pub(super) fn row(self) -> usize {
        self.row
    }

    #[cfg(test)]
    pub(super) fn turn(self) -> u64 {
        self.turn
    }
}

/// Sequences are numbered across streams, so that a slot is not mistaken for another stream's; 0 is nobody's number.
static NEXT_TURN: AtomicU64 = AtomicU64::new(1);

/// Many sequences in one batch, each with a state of its own that stays on the device from step to step. Made by [`Session::stream`], which
/// borrows the session, or [`Session::into_stream`], which moves it into the stream, so that a struct of yours can hold it.
///
/// A step that fails on the way, or whose future is dropped before its end, leaves some states moved and others not: the sequences that are
/// in the stream then are lost. They must [`leave`](Stream::leave); whoever joins afterwards is not concerned. A step that fails before it has
/// given the device anything to do, for want of memory or of room, loses nobody.
///
/// ```
/// # use cellgate::{CellWeights, DeviceChoice, Engine, Lstm, LstmConfig, Network, Options};
/// # use ndarray::{Array1, Array2};
/// # let cell = CellWeights {
/// #     weight_ih: Array2::from_elem((16, 3), 0.1), weight_hh: Array2::from_elem((16, 4), 0.1),
/// #     bias_ih: Some(Array1::zeros(16)), bias_hh: Some(Array1::zeros(16)),
/// #     weight_hr: None, peepholes: None, layer_norm: None,
/// # };
/// # let network = Network::from_lstm(Lstm::new(LstmConfig::new(3, 4), vec![cell])?, false);
/// let mut session = Engine::new(DeviceChoice::Cpu)?.session(&network, Options::default())?;
/// let mut stream = session.stream(32)?;
/// let (alice, bob) = (stream.join()?, stream.join()?);
/// // chunks of different lengths, and only from those who have something new
/// let y = stream.step(&[(alice, Array2::ones((5, 3)).view()), (bob, Array2::ones((2, 3)).view())])?;
/// assert_eq!((y[0].dim(), y[1].dim()), ((5, 4), (2, 4)));
/// stream.leave(bob)?;
/// let y = stream.step(&[(alice, Array2::ones((1, 3)).view())])?;
/// # Ok::<(), cellgate::Error>(())
/// ```
pub struct Stream<'s> {
    pub(super) session: Owner<'s>,
    layout: Layout,
    state: NodeState,
    /// for every row: the turn of the sequence that holds it, if any does
    holders: Vec<Option<u64>>,
    /// sequences of this turn and earlier ones lost their state to a step that did not finish, or with a device
    pub(super) lost: u64,
}

/// Where a stream has its session.
pub(super) enum Owner<'s> {
    Borrowed(&'s mut Session),
    Owned(Box<Session>),
}

impl Deref for Owner<'_> {
    type Target = Session;

    fn deref(&self) -> &Session {
        match self {
            Self::Borrowed(session) => session,
            Self::Owned(session) => session,
        }
    }
}

impl DerefMut for Owner<'_> {
    fn deref_mut(&mut self) -> &mut Session {
        match self {
            Self::Borrowed(session) => session,
            Self::Owned(session) => session,
        }
    }
}

impl<'s> Stream<'s> {
    pub(super) fn new(mut session: Owner<'s>, slots: usize) -> Result<Self> {
        if slots == 0 {
            return Err(Error::config("a stream needs at least one slot, found 0"));
        }
        check_room::<Option<u64>>("holders [slots]", [[slots]])?;
        pollster::block_on(session.renew())?;
        let (_, layout) = session.only_runner()?;
        let state = pollster::block_on(session.new_state(0, slots))?;
        Ok(Self { session, layout, state, holders: vec![None; slots], lost: 0 })
    }

    /// Ends all sequences and gives the session back: `None` where the stream only borrowed it, so that its owner has it again.
    pub fn into_session(self) -> Option<Session> {
        match self.session {
            Owner::Borrowed(_) => None,
            Owner::Owned(session) => Some(*session),
        }
    }

    /// The session that it is a stream of.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// How many sequences there may be at once.
    pub fn capacity(&self) -> usize {
        self.holders.len()
    }

    /// How many sequences there are.
    pub fn active(&self) -> usize {
        self.holders.iter().flatten().count()
    }

    /// Starts a sequence with a state of zeros.
    ///
    /// # Errors
    /// [`ErrorKind::Limit`](crate::ErrorKind::Limit) where every slot is taken; the device's own errors, after which nobody has joined.
    pub fn join(&mut self) -> Result<Slot> {
        let (runner, _) = self.session.only_runner()?;
        let zeros = LstmState::zeros(runner.config(), 1);
        self.join_at(&zeros)
    }

    /// Starts a sequence with a given state: `h [L, 1, R]`, `c [L, 1, H]`, as [`read`](Stream::read) gives it.
    ///
    /// # Errors
    /// [`ErrorKind::Limit`](crate::ErrorKind::Limit) where every slot is taken, [`ErrorKind::Shape`](crate::ErrorKind::Shape) where a shape is wrong; the device's own
    /// errors, after which nobody has joined.
    pub fn join_with(&mut self, state: &HostState) -> Result<Slot> {
        let (runner, _) = self.session.only_runner()?;
        let state = host_state(runner.config(), 1, state)?;
        self.join_at(&state)
    }

    fn join_at(&mut self, state: &LstmState) -> Result<Slot> {
        let Some(row) = self.holders.iter().position(Option::is_none) else {
            return Err(Error::limit(format!("stream: all {} slots are taken", self.capacity())));
        };
        self.check_device()?;
        let (runner, _) = self.session.only_runner()?;
        pollster::block_on(runner.set_state_row(&mut self.state, row, state))?;
        let turn = NEXT_TURN.fetch_add(1, Ordering::Relaxed);
        self.holders[row] = Some(turn);
        Ok(Slot { row, turn })
    }

    /// Ends a sequence; its slot is free for the next one.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) where the sequence has ended already, or is one of another stream.
    pub fn leave(&mut self, slot: Slot) -> Result<()> {
        self.held(slot)?;
        self.holders[slot.row] = None;
        Ok(())
    }

    /// The state of a sequence, on the host: `h [L, 1, R]`, `c [L, 1, H]`. The states of all slots are copied to the host for it, so it costs as
    /// much for one sequence as for all.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) where the sequence has ended, [`ErrorKind::StateLost`](crate::ErrorKind::StateLost) where its state is
    /// lost; the device's own errors.
    pub fn read(&mut self, slot: Slot) -> Result<HostState> {
        pollster::block_on(self.read_and_wait(slot, Wait::Block))
    }

    /// As [`Stream::read`], for callers that cannot block.
    ///
    /// # Errors
    /// As [`Stream::read`].
    pub async fn read_async(&mut self, slot: Slot) -> Result<HostState> {
        self.read_and_wait(slot, Wait::Async).await
    }

    async fn read_and_wait(&mut self, slot: Slot, wait: Wait) -> Result<HostState> {
        self.holding(slot)?;
        let node = self.session.network().nodes[0].name.clone();
        let (runner, _) = self.session.only_runner()?;
        let all = runner.read_state(&self.state, wait).await?;
        let row = |array: &Array3<f32>| array.slice(s![.., slot.row..=slot.row, ..]).to_owned();
        Ok(HostState { node, h: row(&all.h), c: row(&all.c) })
    }

    /// Takes every given sequence some steps further: a chunk is `[steps, input_size]`, and its result, in the same place of the
    /// returned list, `[steps, out_size]`. Chunks may differ in length; a sequence without one keeps its state.
    ///
    /// All slots are computed side by side, as long as the longest chunk. Where that takes more than 64 MiB, or than
    /// [`Options::max_call_bytes`](crate::Options::max_call_bytes), it is done in windows of time, with the same bits: the memory of a very long chunk
    /// does not grow with the number of slots.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) where a sequence has ended or is given twice, [`ErrorKind::StateLost`](crate::ErrorKind::StateLost)
    /// where its state is lost,
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) where a chunk's input size is wrong,
    /// [`ErrorKind::Limit`](crate::ErrorKind::Limit) where one step of all slots, and the results, are more than is allowed or this machine holds; the
    /// device's own errors.
    pub fn step(&mut self, chunks: &[(Slot, ArrayView2<'_, f32>)]) -> Result<Vec<Array2<f32>>> {
        pollster::block_on(self.step_and_wait(chunks, Wait::Block))
    }

    /// As [`Stream::step`], for callers that cannot block; where it blocks all the same, [`Session::run_async`] says.
    ///
    /// # Errors
    /// As [`Stream::step`]. If the future is dropped before its end, the sequences that are in the stream are lost.
    pub async fn step_async(&mut self, chunks: &[(Slot, ArrayView2<'_, f32>)]) -> Result<Vec<Array2<f32>>> {
        self.step_and_wait(chunks, Wait::Async).await
    }

    /// Takes every slot the same number of steps further: `x` and the result have the model's own order of axes, with
    /// [`capacity`](Stream::capacity) rows; rows of slots that nobody holds come back as zeros.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) where the shape of `x` is wrong,
    /// [`ErrorKind::Limit`](crate::ErrorKind::Limit) where the results are more than is allowed or this machine holds,
    /// [`ErrorKind::StateLost`](crate::ErrorKind::StateLost) where the state of a sequence is lost; the device's own errors.
    pub fn step_all(&mut self, x: ArrayView3<'_, f32>) -> Result<ArrayD<f32>> {
        pollster::block_on(self.step_all_and_wait(x, Wait::Block))
    }

    /// As [`Stream::step_all`], for callers that cannot block; where it blocks all the same, [`Session::run_async`] says.
    ///
    /// # Errors
    /// As [`Stream::step_all`]. If the future is dropped before its end, the sequences that are in the stream are lost.
    pub async fn step_all_async(&mut self, x: ArrayView3<'_, f32>) -> Result<ArrayD<f32>> {
        self.step_all_and_wait(x, Wait::Async).await
    }

    async fn step_all_and_wait(&mut self, x: ArrayView3<'_, f32>, wait: Wait) -> Result<ArrayD<f32>> {
        let x = self.layout.x_inside("x", x.into_dyn())?;
        let (runner, _) = self.session.only_runner()?;
        let input_size = runner.config().input_size;
        let (seq_len, rows, features) = x.dim();
        if rows != self.capacity() || features != input_size {
            let expected = self.layout.x_shape(self.capacity(), seq_len, input_size);
            let found = self.layout.x_shape(rows, seq_len, features);
            return Err(Error::shape(format!("tensor `x`: expected {} = {expected:?}, found {found:?}", self.layout.x_axes())));
        }
        let len = u32::try_from(seq_len).map_err(|_| Error::shape(format!("tensor `x`: seq_len {seq_len} is too long")))?;
        self.check_device()?;
        if let Some(lost) = self.lost().next() {
            return Err(lost_state(lost.row));
        }
        let lens: Vec<u32> = self.holders.iter().map(|holder| if holder.is_some() { len } else { 0 }).collect();
        let layout = self.layout;
        let (runner, _) = self.session.only_runner()?;
        let out_size = runner.config().out_size();
        let bytes = |[rows, steps]: [usize; 2]| float_bytes(&[steps, rows, out_size]).saturating_add(self.device_bytes(rows, steps));
        check_call(self.session.options.max_call_bytes, [rows, seq_len], bytes)?;
        check_room::<f32>("results [seq_len, capacity, out_size]", [[seq_len, rows, out_size]])?;
        let mut y = ArrayD::zeros(layout.y_shape(seq_len, rows, 1, out_size));
        self.run(x, &lens, layout.y_inside_mut(&mut y, 1), wait).await?;
        Ok(y)
    }

    /// Runs `x [T, capacity, I]`, with `y [T, capacity, 1, R]`, zeros before, as its result; a row of length 0 keeps its state.
    pub(super) async fn run(&mut self, x: ArrayView3<'_, f32>, lens: &[u32], y: ArrayViewMut4<'_, f32>, wait: Wait) -> Result<()> {
        if lens.iter().all(|&len| len == 0) {
            return Ok(());
        }
        let full = lens.iter().all(|&len| len as usize == x.dim().0);
        let call = LstmCall { x, sequence_lens: (!full).then_some(lens) };
        // until the step has come to its end, everybody's state counts as lost
        let newest = self.newest();
        let lost = std::mem::replace(&mut self.lost, newest);
        let (runner, _) = self.session.only_runner()?;
        runner.reset_profile();
        self.state.begin();
        let ran = runner.run(&call, None, &mut self.state, LstmResults { y: Some(y), ..LstmResults::default() }, wait).await;
        if ran.is_ok() || !self.state.has_moved() {
            self.lost = lost;
        }
        ran
    }

    /// Where the time of the last step went, as [`Session::profile`] says it.
    pub fn profile(&self) -> Option<CallProfile> {
        self.session.profile()
    }

    /// Checks that the sequence is in the stream and its state whole.
    pub(super) fn holding(&self, slot: Slot) -> Result<()> {
        self.held(slot)?;
        self.check_device()?;
        if self.has_lost(slot) { Err(lost_state(slot.row)) } else { Ok(()) }
    }

    /// The sequences that there are, in the order of their rows.
    pub(super) fn slots(&self) -> impl Iterator<Item = Slot> + '_ {
        self.holders.iter().enumerate().filter_map(|(row, holder)| holder.map(|turn| Slot { row, turn }))
    }

    pub(super) fn has_lost(&self, slot: Slot) -> bool {
        slot.turn <= self.lost
    }

    /// The newest of the sequences that there are.
    fn newest(&self) -> u64 {
        self.holders.iter().flatten().copied().max().unwrap_or(0)
    }

    /// Nobody's state is whole any more.
    pub(super) fn lose_all(&mut self) {
        self.lost = self.lost.max(self.newest());
    }

    /// Bytes that `steps` steps of `rows` slots take on the device, weights and states left out.
    pub(super) fn device_bytes(&self, rows: usize, steps: usize) -> u64 {
        let runner = self.session.nodes.first().and_then(|node| node.runner.as_ref());
        let choose = |rows| self.state.choice(rows);
        runner.map_or(0, |runner| runner.device_bytes(self.state.side(), [rows, steps], true, choose))
    }

    /// Moves to the device that the engine has now; if that is another one, everybody's state is lost.
    pub(super) async fn renew(&mut self) -> Result<()> {
        self.session.renew().await?;
        if !self.state.is_on(&self.session.backend) {
            self.lose_all();
            let (runner, _) = self.session.only_runner()?;
            runner.renew_state(&mut self.state).await?;
        }
        Ok(())
    }

    /// Checks that the states are where the session is: they are not where [`Stream::recover`] did not come to its end.
    fn check_device(&self) -> Result<()> {
        if self.state.is_on(&self.session.backend) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::StateLost, "stream: its states went with a device that was lost; it must recover"))
    }

    /// Checks that the sequence is in the stream.
    fn held(&self, slot: Slot) -> Result<()> {
        match self.holders.get(slot.row) {
            Some(Some(turn)) if *turn == slot.turn => Ok(()),
            _ => Err(Error::config(format!("stream: the sequence in slot {} has ended, or is another stream's", slot.row))),
        }
    }
}

fn lost_state(row: usize) -> Error {
    let what = "stream: a step did not finish, or a device was lost, and the sequence in slot";
    Error::new(ErrorKind::StateLost, format!("{what} {row} lost its state; it must leave, and may join anew"))
}

impl fmt::Debug for Stream<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("capacity", &self.capacity()).field("active", &self.active()).finish_non_exhaustive()
    }
}
