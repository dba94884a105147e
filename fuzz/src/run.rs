//! Running a network that was read.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::OnceLock;

use cellgate::{AxisSize, DeviceChoice, ElementType, Engine, Inputs, Network, Options, Port, Result, Tensor, Tuning};
use libfuzzer_sys::Corpus;
use ndarray::{ArrayD, IxDyn};

use crate::CALL;
use crate::allocator::{OutOfMemory, Phase, guarded};

/// Elements that an input may have.
const MOST_ELEMENTS: usize = 1 << 12;

/// Runs `network` on the CPU with small inputs of the shapes that it asks for, or hears why not.
pub fn run(network: &Network) -> Corpus {
    engine();
    call(|| try_run(network))
}

/// Does `work` with no more memory than a call may take.
pub fn call<T>(work: impl FnOnce() -> T) -> Corpus {
    let done = guarded(Phase::Call, CALL, || catch_unwind(AssertUnwindSafe(|| drop(work()))));
    match done {
        Ok(()) => Corpus::Keep,
        // how much a call takes is the model's and the caller's to say
        Err(panic) if panic.is::<OutOfMemory>() => Corpus::Reject,
        Err(panic) => resume_unwind(panic),
    }
}

fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| Engine::new(DeviceChoice::Cpu).expect("there is always a CPU"))
}

/// A tensor for `port`; `None` where it would be large. Axes of one name have one size.
fn tensor(port: &Port) -> Option<Tensor> {
    let size = |axis: &AxisSize| match axis {
        AxisSize::Fixed(size) => *size,
        AxisSize::Named(name) => {
            let mut hasher = DefaultHasher::new();
            name.hash(&mut hasher);
            1 + (hasher.finish() % 3) as usize
        }
    };
    let shape: Vec<usize> = port.axes.iter().map(size).collect();
    let len = shape.iter().try_fold(1_usize, |len, &size| len.checked_mul(size.max(1))).filter(|&len| len <= MOST_ELEMENTS)?;
    let len = if shape.contains(&0) { 0 } else { len };
    let number = |place: usize| 1 + (place % 3) as i8;
    fn array<T>(shape: &[usize], len: usize, element: impl Fn(usize) -> T) -> ArrayD<T> {
        ArrayD::from_shape_vec(IxDyn(shape), (0..len).map(element).collect()).expect("as many elements as the shape says")
    }
    Some(match port.element_type {
        ElementType::F32 => array(&shape, len, |place| f32::from(number(place)) / 4.0).into(),
        ElementType::F64 => array(&shape, len, |place| f64::from(number(place)) / 4.0).into(),
        ElementType::I32 => array(&shape, len, |place| i32::from(number(place))).into(),
        ElementType::I64 => array(&shape, len, |place| i64::from(number(place))).into(),
        ElementType::I8 => array(&shape, len, number).into(),
        ElementType::U8 => array(&shape, len, |place| number(place).cast_unsigned()).into(),
        ElementType::Bool => array(&shape, len, |place| place % 2 == 0).into(),
        _ => return None,
    })
}

fn try_run(network: &Network) -> Result<()> {
    let tensors: Vec<_> = network.inputs().iter().filter_map(|port| Some((port, tensor(port)?))).collect();
    let inputs = tensors.iter().fold(Inputs::new(), |inputs, (port, tensor)| inputs.with(port.name.as_str(), tensor.view()));
    let options = Options { tuning: Tuning::Model, ..Options::default() };
    let mut session = engine().session(network, options)?;
    session.run(&inputs).map(drop)
}
