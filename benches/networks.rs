//! Whole networks of other projects on every device: `cargo bench --bench networks` (all rows, timed), `cargo test` (each once, to see that they run).
//!
//! Every row is compared with the float64 reference before it is timed. With `CELLGATE_ROUNDS` in the environment, each line `ROW CALLS [PRECISION]` on
//! stdin is answered with the milliseconds of so many calls, so that `benches/peers/networks.py` and `benches/peers/cpu.py` can time others in turn with it.
//! `ROW` may then also be a folder with a model and `in.NAME.npy` for its inputs: `out.NAME.npy` are written there once, for the asker to judge.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::path::Path;
use std::time::Instant;

use cellgate::compare::{Tolerance, compare};
use cellgate::formats::npy;
use cellgate::measure::Summary;
use cellgate::{
    DeviceChoice, DeviceRequest, Engine, GraphicsBackend, Inputs, Network, Options, Outputs, Port, Precision, Result, Session, Tensor, Tuning,
};
use ndarray::{ArrayD, Axis, Dimension, IxDyn};

/// What whole networks are held to, operators on the CPU included.
const BOUND: Tolerance = Tolerance { atol: 1e-4, rtol: 1e-4 };

/// A model of `tests/networks/models` at so many rows, and as many steps where these are its own to choose.
struct Row {
    name: &'static str,
    model: &'static str,
    batch: usize,
    seq_len: Option<usize>,
}

const ROWS: &[Row] = &[
    Row { name: "silero-1", model: "silero-vad", batch: 1, seq_len: None },
    Row { name: "silero-32", model: "silero-vad", batch: 32, seq_len: None },
    Row { name: "silero-256", model: "silero-vad", batch: 256, seq_len: None },
    Row { name: "byte-bilstm-64x200", model: "byte-bilstm", batch: 64, seq_len: Some(200) },
];

fn main() -> Result<()> {
    let timed = std::env::args().any(|argument| argument == "--bench");
    let mut engines = vec![Engine::new(DeviceChoice::Cpu)?];
    for backend in [GraphicsBackend::Vulkan, GraphicsBackend::Metal, GraphicsBackend::Dx12, GraphicsBackend::Gl] {
        let request = DeviceRequest { choice: DeviceChoice::Gpu, backend: Some(backend), allow_software: true, ..DeviceRequest::default() };
        engines.extend(Engine::new(request).ok());
    }
    let wanted = std::env::var("CELLGATE_BENCH").unwrap_or_default();
    engines.retain(|engine| engine.describe().to_string().contains(&wanted));
    for engine in &engines {
        if std::env::var_os("CELLGATE_ROUNDS").is_some() {
            serve(engine)?;
            continue;
        }
        println!("{}", engine.describe());
        for row in ROWS.iter().filter(|row| timed || row.batch == 1) {
            let mut case = Case::of_row(engine, row, Precision::F32)?;
            let times = case.times(if timed { 50 } else { 1 })?;
            if let Some(summary) = Summary::of(&times) {
                println!("  {:20} n {:3}  median {:8.3} ms  mad {:7.3}  min {:8.3}", row.name, times.len(), summary.median, summary.mad, summary.min);
            }
        }
    }
    Ok(())
}

/// Answers lines on stdin until there are no more. What a line names is opened when it is first named, and stays open.
fn serve(engine: &Engine) -> Result<()> {
    let mut cases = BTreeMap::new();
    println!("ready {}", engine.describe());
    for line in std::io::stdin().lock().lines().map_while(std::result::Result::ok) {
        let mut words = line.split_whitespace();
        let (name, calls) = (words.next().unwrap_or_default(), words.next().and_then(|word| word.parse().ok()).unwrap_or(1));
        let precision = words.next().unwrap_or("f32");
        let key = (name.to_owned(), precision.to_owned());
        if !cases.contains_key(&key) {
            cases.insert(key.clone(), Case::named(engine, name, precision)?);
        }
        let times = cases.get_mut(&key).map(|case| case.times(calls)).transpose()?.unwrap_or_default();
        println!("{}", times.iter().map(|time| format!("{time:.6}")).collect::<Vec<_>>().join(" "));
    }
    Ok(())
}

/// A row, ready to run.
struct Case {
    session: Session,
    inputs: Vec<(String, Tensor)>,
    outputs: Outputs,
}

impl Case {
    /// A row of this file by its name, or whatever lies in the folder `name`.
    fn named(engine: &Engine, name: &str, precision: &str) -> Result<Self> {
        let precision = match precision {
            "f32" => Precision::F32,
            "f16" => Precision::F16,
            "int8" => Precision::Int8,
            other => panic!("precision: expected f32, f16 or int8, found {other}"),
        };
        if let Some(row) = ROWS.iter().find(|row| row.name == name) {
            return Self::of_row(engine, row, precision);
        }
        let mut case = Self::open(engine, Path::new(name), precision, |_, tensor| tensor)?;
        case.times(1)?;
        for (output, tensor) in case.outputs.iter() {
            npy::write(&Path::new(name).join(format!("out.{output}.npy")), tensor)?;
        }
        Ok(case)
    }

    /// A row of this file, compared with the reference.
    fn of_row(engine: &Engine, row: &Row, precision: Precision) -> Result<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/networks/models").join(row.model);
        let mut case = Self::open(engine, &folder, precision, |port, tensor| {
            let axis = |name| port.axes.iter().position(|axis| axis.to_string() == name);
            let tensor = axis("batch").map_or(tensor.clone(), |axis| repeated(&tensor, axis, row.batch));
            axis("length").zip(row.seq_len).map_or(tensor.clone(), |(axis, steps)| repeated(&tensor, axis, steps))
        })?;
        case.verify()?;
        Ok(case)
    }

    /// The model in `folder`, with those of its inputs that lie there, as `sized` makes them.
    fn open(engine: &Engine, folder: &Path, precision: Precision, sized: impl Fn(&Port, Tensor) -> Tensor) -> Result<Self> {
        let onnx = folder.join("model.onnx");
        let network = Network::open(if onnx.exists() { onnx } else { folder.join("model.safetensors") })?;
        let mut inputs = Vec::new();
        for port in network.inputs() {
            let file = folder.join(format!("in.{}.npy", port.name));
            if file.exists() {
                inputs.push((port.name.clone(), sized(port, npy::read(&file)?)));
            }
        }
        // what is timed does not depend on what was measured on this machine before
        let session = engine.session(&network, Options { precision, tuning: Tuning::Model, ..Options::default() })?;
        Ok(Self { session, inputs, outputs: Outputs::default() })
    }

    /// One call, compared with the reference.
    fn verify(&mut self) -> Result<()> {
        let given = self.inputs.iter().fold(Inputs::new(), |inputs, (name, tensor)| inputs.with(name.as_str(), tensor.view()));
        let reference = Engine::new(DeviceChoice::Reference)?;
        let expected = reference.session(self.session.network(), Options::default())?.run(&given)?;
        let actual = self.session.run(&given)?;
        for (name, expected) in expected.iter() {
            let (Some(expected), Some(actual)) = (expected.as_f32(), actual.get(name).and_then(Tensor::as_f32)) else { continue };
            let comparison = compare(actual.view(), expected.mapv(f64::from).view(), BOUND);
            assert!(comparison.passed(), "output `{name}`: {comparison}");
        }
        Ok(())
    }

    /// Milliseconds of whole calls, tensors on the host before and after.
    fn times(&mut self, calls: usize) -> Result<Vec<f64>> {
        let given = self.inputs.iter().fold(Inputs::new(), |inputs, (name, tensor)| inputs.with(name.as_str(), tensor.view()));
        let mut times = Vec::with_capacity(calls);
        for _ in 0..calls {
            let start = Instant::now();
            self.session.run_into(&given, &mut self.outputs)?;
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
        Ok(times)
    }
}

/// The tensor with its rows on `axis` over and over again, until there are `len`.
fn repeated(tensor: &Tensor, axis: usize, len: usize) -> Tensor {
    fn array<T: Clone>(array: &ArrayD<T>, axis: usize, len: usize) -> ArrayD<T> {
        let rows = array.len_of(Axis(axis));
        let mut shape = array.shape().to_vec();
        shape[axis] = len;
        let mut indices = vec![0; shape.len()];
        ArrayD::from_shape_fn(IxDyn(&shape), |index| {
            indices.copy_from_slice(index.slice());
            indices[axis] %= rows;
            array[IxDyn(&indices)].clone()
        })
    }
    match tensor {
        Tensor::F32(values) => array(values, axis, len).into(),
        Tensor::U8(values) => array(values, axis, len).into(),
        Tensor::I64(values) => array(values, axis, len).into(),
        other => other.clone(),
    }
}
