//! What is done with a network, drawn from the bytes of an input.

use cellgate::gpu::form::{Choice, ProductForm, ResidentForm, RowForm, Schedule, TileForm};
use cellgate::{DeviceChoice, DeviceRequest, GraphicsBackend, Options, Precision, ScheduleName, Tuning};

use super::call::CallPlan;
use super::draw::Draw;
use super::network::NetworkPlan;
use super::numbers::Numbers;

/// Rows, slots or steps that no machine has the memory for.
const HUGE: [usize; 3] = [1 << 40, isize::MAX.cast_unsigned(), usize::MAX];

/// Things that are done one after the other.
const MOST_OPS: usize = 24;

/// A network and what is done with it. Sessions, states and sequences are numbered in the order in which they come; a number beyond them starts anew.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) network: NetworkPlan,
    pub(super) ops: Vec<Op>,
}

#[derive(Clone, Debug)]
pub(super) enum Op {
    Session {
        network: usize,
        options: OptionsPlan,
    },
    Run {
        session: usize,
        call: CallPlan,
        way: Way,
        twice: Option<Way>,
    },
    State {
        session: usize,
        batch: usize,
    },
    RunWithState {
        session: usize,
        state: usize,
        call: CallPlan,
        way: Way,
    },
    ReadState {
        session: usize,
        state: usize,
    },
    WriteState {
        session: usize,
        state: usize,
        write: Write,
    },
    /// moves the session into a stream
    Stream {
        session: usize,
        slots: usize,
    },
    InStream {
        session: usize,
        op: StreamOp,
    },
    /// gives the session of a stream back
    IntoSession {
        session: usize,
    },
    /// a stream that borrows its session
    Borrowed {
        session: usize,
        slots: usize,
        ops: Vec<StreamOp>,
    },
    Explain {
        session: usize,
        batch: usize,
        seq_len: usize,
    },
    Tune {
        session: usize,
        batch: usize,
        seq_len: usize,
    },
    /// what a session says of itself, and of so many rows
    Facts {
        session: usize,
        batch: usize,
    },
    /// writes the network as a file and reads that again
    Save {
        network: usize,
        precision: Precision,
        file: bool,
    },
    Recover,
    DropSession {
        session: usize,
    },
    DropState {
        state: usize,
    },
    Request(Box<DeviceRequest>),
}

/// By which of its ways a call is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Plain,
    Into,
    Trace,
    Async,
}

#[derive(Clone, Debug)]
pub(super) struct OptionsPlan {
    pub(super) options: Options,
    /// which of a GPU's candidates it is to run, if one
    pub(super) candidate: Option<usize>,
}

/// What is written into a state.
#[derive(Clone, Copy, Debug)]
pub(super) enum Write {
    /// for every LSTM
    All(Numbers),
    /// for the first one
    First(Numbers),
    /// what was read last, of whatever state that was
    LastRead,
    /// a row too many
    Shape,
    /// for an LSTM that there is not
    Nobody,
    Nothing,
}

#[derive(Clone, Debug)]
pub(super) enum StreamOp {
    Join,
    JoinWith(Write),
    Leave {
        slot: usize,
    },
    Read {
        slot: usize,
    },
    /// sequences, each with so many steps
    Step {
        chunks: Vec<(usize, Chunk)>,
        waits: bool,
    },
    StepAll {
        rows: Option<usize>,
        seq_len: usize,
        numbers: Numbers,
        waits: bool,
    },
    Facts,
    Recover,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Chunk {
    pub(super) steps: usize,
    pub(super) numbers: Numbers,
    /// whether it has a feature too many
    pub(super) wide: bool,
}

impl Plan {
    pub(super) fn draw(bytes: &[u8]) -> Self {
        let mut draw = Draw::new(bytes);
        let network = NetworkPlan::draw(&mut draw);
        let mut ops = vec![Op::Session { network: 0, options: OptionsPlan::draw(&mut draw) }];
        while !draw.is_over() && ops.len() < MOST_OPS {
            ops.push(Op::draw(&mut draw));
        }
        Self { network, ops }
    }
}

impl Op {
    fn draw(draw: &mut Draw<'_>) -> Self {
        let session = draw.pick(&[0, 0, 0, 1, 2]);
        let state = draw.pick(&[0, 0, 1, 2]);
        match draw.below(32) {
            0..7 => Self::Run { session, call: CallPlan::draw(draw, None), way: Way::draw(draw), twice: draw.maybe(3, Way::draw) },
            7..9 => Self::State { session, batch: count(draw) },
            9..14 => {
                let call = CallPlan::draw(draw, Some(2));
                // a call on a state gives none, or is refused
                let call = if draw.one_in(12) { call } else { call.carried() };
                Self::RunWithState { session, state, call, way: Way::draw(draw) }
            }
            14 => Self::ReadState { session, state },
            15 => Self::WriteState { session, state, write: Write::draw(draw) },
            16 => Self::Stream { session, slots: count(draw) },
            17..22 => Self::InStream { session, op: StreamOp::draw(draw) },
            22 => Self::IntoSession { session },
            23 => {
                let (slots, num_ops) = (count(draw), draw.below(8));
                Self::Borrowed { session, slots, ops: (0..num_ops).map(|_| StreamOp::draw(draw)).collect() }
            }
            24 => Self::Explain { session, batch: size(draw), seq_len: size(draw) },
            25 => Self::Tune { session, batch: size(draw), seq_len: size(draw) },
            26 => Self::Facts { session, batch: size(draw) },
            27 => Self::Save { network: draw.below(2), precision: draw.pick(&Precision::ALL), file: draw.one_in(8) },
            28 => Self::Session { network: draw.below(3), options: OptionsPlan::draw(draw) },
            29 => Self::DropSession { session },
            30 => Self::DropState { state },
            _ if draw.one_in(2) => Self::Request(Box::new(request(draw))),
            _ => Self::Recover,
        }
    }
}

/// Rows of a state, or slots of a stream; seldom none, or too many.
fn count(draw: &mut Draw<'_>) -> usize {
    draw.maybe(16, |draw| draw.pick(&[0, HUGE[0], HUGE[1], HUGE[2]])).unwrap_or_else(|| draw.pick(&[2, 2, 2, 1, 3, 5]))
}

/// Rows or steps that somebody asks about.
fn size(draw: &mut Draw<'_>) -> usize {
    draw.pick(&[2, 1, 0, 7, 64, 1000, 100_000, 1 << 32, HUGE[0], HUGE[1], HUGE[2]])
}

/// A wish for a device of the host, which may contradict itself.
fn request(draw: &mut Draw<'_>) -> DeviceRequest {
    DeviceRequest {
        choice: draw.pick(&[DeviceChoice::Cpu, DeviceChoice::Reference]),
        adapter: draw.maybe(3, |draw| draw.pick(&["", "nobody"]).to_owned()),
        backend: draw.maybe(4, |_| GraphicsBackend::Vulkan),
        allow_software: draw.one_in(4),
        checked_shaders: draw.maybe(4, |draw| draw.one_in(2)),
        least_limits: draw.one_in(8),
        timeout: draw.maybe(3, |draw| std::time::Duration::from_secs(draw.pick(&[0, 1, u64::MAX]))),
    }
}

/// A form of the kernels that nobody made for the network: few suit it.
fn choice(draw: &mut Draw<'_>) -> Choice {
    let number = |draw: &mut Draw<'_>| draw.pick(&[64, 1, 2, 4, 16, 0, 3, 1 << 20, u32::MAX]);
    let product = |draw: &mut Draw<'_>| {
        if draw.one_in(2) {
            return ProductForm::Tile(TileForm {
                row_threads: number(draw),
                unit_threads: number(draw),
                row_quads: number(draw),
                units: number(draw),
            });
        }
        ProductForm::Rows(RowForm { workgroup_size: number(draw), rows: number(draw), k_lanes: number(draw), subgroups: draw.one_in(3) })
    };
    let schedule = match draw.below(3) {
        0 => Schedule::PerStep(product(draw)),
        1 => Schedule::Wavefront(product(draw)),
        _ => {
            let (workgroup_size, rows, units, k_lanes) = (number(draw), number(draw), number(draw), number(draw));
            Schedule::Resident(ResidentForm { workgroup_size, rows, units, k_lanes, held: draw.one_in(2) })
        }
    };
    Choice { schedule, input: product(draw) }
}

impl Way {
    fn draw(draw: &mut Draw<'_>) -> Self {
        draw.pick(&[Self::Plain, Self::Into, Self::Trace, Self::Async])
    }
}

impl OptionsPlan {
    fn draw(draw: &mut Draw<'_>) -> Self {
        let options = Options {
            precision: draw.pick(&[Precision::F32, Precision::F32, Precision::F32, Precision::F16, Precision::Int8]),
            schedule: draw.maybe(12, |draw| draw.pick(&ScheduleName::ALL)),
            choice: draw.maybe(20, choice),
            profile: draw.one_in(8),
            // a device takes more than the reference does: one would go on where the other does not
            max_call_bytes: None,
            tuning: draw.pick(&[Tuning::Model, Tuning::Recorded]),
            cache: None,
        };
        Self { options, candidate: draw.maybe(8, |draw| draw.below(64)) }
    }
}

impl Write {
    fn draw(draw: &mut Draw<'_>) -> Self {
        let numbers = Numbers::draw(draw);
        draw.pick(&[
            Self::All(numbers),
            Self::All(numbers),
            Self::LastRead,
            Self::LastRead,
            Self::First(numbers),
            Self::Shape,
            Self::Nobody,
            Self::Nothing,
        ])
    }
}

impl StreamOp {
    fn draw(draw: &mut Draw<'_>) -> Self {
        let slot = draw.pick(&[0, 0, 1, 2, 3, 7]);
        match draw.below(16) {
            0..3 => Self::Join,
            3 => Self::JoinWith(Write::draw(draw)),
            4 => Self::Leave { slot },
            5 => Self::Read { slot },
            6..12 => {
                let count = draw.pick(&[1, 1, 2, 3, 0]);
                let chunk = |draw: &mut Draw<'_>| Chunk {
                    steps: draw.maybe(20, |draw| draw.pick(&HUGE)).unwrap_or_else(|| draw.pick(&[1, 1, 2, 3, 8, 0])),
                    numbers: Numbers::draw(draw),
                    wide: draw.one_in(20),
                };
                let chunks = (0..count).map(|_| (draw.pick(&[0, 1, 2, 3, 5]), chunk(draw)));
                Self::Step { chunks: chunks.collect(), waits: draw.one_in(4) }
            }
            12..14 => {
                let (rows, seq_len) = (draw.maybe(6, count), draw.pick(&[1, 1, 2, 5, 0]));
                Self::StepAll { rows, seq_len, numbers: Numbers::draw(draw), waits: draw.one_in(4) }
            }
            14 => Self::Facts,
            _ => Self::Recover,
        }
    }
}
