//! Reading and running: what is read runs on the CPU with small inputs of the shapes that it asks for, or says why not.
#![no_main]

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::OnceLock;

use cellgate::{AxisSize, DeviceChoice, ElementType, Engine, Inputs, Network, Options, Port, Result, Tensor, Tuning};
use cellgate_fuzz::{CALL, Counting, OutOfMemory, Phase, READ_AT_LEAST, READ_PER_BYTE, guarded, mutate, start};
use libfuzzer_sys::{Corpus, fuzz_mutator, fuzz_target, fuzzer_mutate};
use ndarray::{ArrayD, IxDyn};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Elements that an input may have.
const MOST_ELEMENTS: usize = 1 << 12;

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

fn run(network: &Network) -> Result<()> {
    let tensors: Vec<_> = network.inputs().iter().filter_map(|port| Some((port, tensor(port)?))).collect();
    let inputs = tensors.iter().fold(Inputs::new(), |inputs, (port, tensor)| inputs.with(port.name.as_str(), tensor.view()));
    let options = Options { tuning: Tuning::Model, ..Options::default() };
    let mut session = engine().session(network, options)?;
    session.run(&inputs).map(drop)
}

fuzz_target!(init: start(), |bytes: &[u8]| -> Corpus {
    let (read, _) = guarded(Phase::Read, bytes.len() * READ_PER_BYTE + READ_AT_LEAST, || Network::from_bytes(bytes));
    let Ok(network) = read else { return Corpus::Reject };
    engine();
    let (ran, _) = guarded(Phase::Call, CALL, || catch_unwind(AssertUnwindSafe(|| run(&network))));
    match ran {
        Ok(_) => Corpus::Keep,
        // how much a call takes is the model's and the caller's to say
        Err(panic) if panic.is::<OutOfMemory>() => Corpus::Reject,
        Err(panic) => resume_unwind(panic),
    }
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    match mutate(&data[..size], max_size, seed).filter(|_| seed % 16 != 0) {
        Some(made) => {
            data[..made.len()].copy_from_slice(&made);
            made.len()
        }
        None => fuzzer_mutate(data, size, max_size),
    }
});
