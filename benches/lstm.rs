//! Whole calls of synthetic LSTMs on every device: `cargo bench` (all rows, timed), `cargo test` (small rows, twice, to see that they run).
//!
//! Every row is compared with the float64 reference before it is timed. See `benches/README.md` for what the figures mean.

use std::time::{Duration, Instant};

use cellgate::compare::{Tolerance, compare};
use cellgate::measure::{CallProfile, Summary};
use cellgate::{
    CellWeights, DeviceChoice, DeviceRequest, Direction, Engine, GATES, GraphicsBackend, Inputs, Lstm, LstmConfig, Network, Options, Result, Tuning,
};
use ndarray::{Array1, Array2, Array3};

/// `|error| <= 1e-5 * (1 + |value|)`, what the crate promises for float32.
const F32: Tolerance = Tolerance { atol: 1e-5, rtol: 1e-5 };

/// What is timed does not depend on what was measured on this machine before.
fn by_model() -> Options {
    Options { tuning: Tuning::Model, ..Options::default() }
}

/// A shape to time.
struct Row {
    layers: usize,
    direction: Direction,
    batch: usize,
    seq_len: usize,
    input_size: usize,
    hidden_size: usize,
}

const fn row(layers: usize, batch: usize, seq_len: usize, input_size: usize, hidden_size: usize) -> Row {
    Row { layers, direction: Direction::Forward, batch, seq_len, input_size, hidden_size }
}

const ROWS: &[Row] = &[
    // latency
    row(1, 1, 100, 64, 64),
    row(1, 1, 100, 256, 256),
    row(1, 4, 100, 128, 128),
    // throughput
    row(1, 32, 100, 128, 128),
    row(1, 32, 100, 256, 256),
    row(1, 256, 25, 128, 128),
    row(1, 1024, 10, 64, 64),
    // layers and directions
    row(3, 16, 50, 256, 256),
    row(2, 64, 50, 512, 512),
    Row { direction: Direction::Bidirectional, ..row(1, 32, 100, 256, 256) },
    // lengths
    row(1, 16, 10, 64, 64),
    row(1, 16, 1000, 64, 64),
];

const SMOKE_ROWS: &[Row] = &[row(1, 1, 3, 5, 8), Row { direction: Direction::Bidirectional, ..row(2, 5, 4, 7, 9) }];

/// A row takes no longer than this, unless a single call does.
const MAX_SECONDS: f64 = 10.0;

fn main() -> Result<()> {
    let timed = std::env::args().any(|argument| argument == "--bench");
    let (rows, repeat) = if timed { (ROWS, 20) } else { (SMOKE_ROWS, 2) };
    // CELLGATE_BENCH names a part of the devices' names
    let only = std::env::var("CELLGATE_BENCH").unwrap_or_default().to_lowercase();
    println!(
        "| device | schedule | L | D | N | T | I | H | n | median ms | MAD ms | min ms | encode | submit to done | device | readback | us/step | GFLOP/s | max error |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|");
    for engine in engines().into_iter().filter(|engine| engine.describe().device.to_string().to_lowercase().contains(&only)) {
        for row in rows {
            time(&engine, row, repeat)?;
        }
    }
    Ok(())
}

/// The CPU, and every adapter through every graphics API.
fn engines() -> Vec<Engine> {
    let gpu = |backend| DeviceRequest { choice: DeviceChoice::Gpu, backend: Some(backend), allow_software: true, ..DeviceRequest::default() };
    let apis = [GraphicsBackend::Vulkan, GraphicsBackend::Metal, GraphicsBackend::Dx12, GraphicsBackend::Gl];
    Engine::new(DeviceChoice::Cpu).into_iter().chain(apis.into_iter().filter_map(|api| Engine::new(gpu(api)).ok())).collect()
}

/// Compares one row with the reference, times it, and prints its line.
fn time(engine: &Engine, row: &Row, repeat: usize) -> Result<()> {
    let (network, x) = row.make()?;
    let inputs = Inputs::new().with("x", x.view());
    let expected = Engine::new(DeviceChoice::Reference)?.session(&network, by_model())?.run(&inputs)?;
    let mut session = engine.session(&network, Options { profile: true, ..by_model() })?;
    let mut actual = session.run(&inputs)?;
    let comparison = compare(actual["y"].view(), expected["y"].mapv(f64::from).view(), F32);
    assert!(comparison.passed(), "{} is wrong, so it is not timed: {comparison}", engine.describe());

    let (mut samples, mut profiles) = (Vec::new(), Vec::new());
    let begun = Instant::now();
    while samples.len() < repeat && (samples.len() < 3 || begun.elapsed().as_secs_f64() < MAX_SECONDS) {
        let start = Instant::now();
        session.run_into(&inputs, &mut actual)?;
        samples.push(start.elapsed());
        profiles.extend(session.profile());
    }
    let phase = |of: &dyn Fn(&CallProfile) -> Option<Duration>| {
        let samples: Vec<Duration> = profiles.iter().filter_map(of).collect();
        Summary::of_durations(&samples).map_or_else(|| "-".to_owned(), |summary| format!("{:.3}", summary.median * 1e3))
    };
    let schedule = session.explain(row.batch, row.seq_len)?.lstms[0].schedule.clone();
    let Some(summary) = Summary::of_durations(&samples) else { return Ok(()) };
    let flops = network.lstms().filter_map(|(_, lstm)| lstm).map(|lstm| lstm.config().flops_per_step()).sum::<u64>() as f64;
    let flops = flops * (row.batch * row.seq_len) as f64;
    let ms = |seconds: f64| seconds * 1e3;
    println!(
        "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {:.3} | {:.3} | {:.3} | {} | {} | {} | {} | {:.2} | {:.2} | {:.1e} |",
        engine.describe().device,
        schedule,
        row.layers,
        if row.direction == Direction::Bidirectional { 2 } else { 1 },
        row.batch,
        row.seq_len,
        row.input_size,
        row.hidden_size,
        summary.n,
        ms(summary.median),
        ms(summary.mad),
        ms(summary.min),
        phase(&|profile| Some(profile.encode)),
        phase(&|profile| Some(profile.submit_to_done)),
        phase(&|profile| profile.device),
        phase(&|profile| Some(profile.readback)),
        summary.median * 1e6 / (row.seq_len * row.layers) as f64,
        flops / summary.median / 1e9,
        comparison.max_abs_err,
    );
    // a device that slows down when it is warm should not punish the next row
    std::thread::sleep(Duration::from_millis(50));
    Ok(())
}

impl Row {
    /// A network with weights as `torch.nn.LSTM` initialises them, uniform in `±1/sqrt(H)`, and an input uniform in ±1.
    fn make(&self) -> Result<(Network, Array3<f32>)> {
        let config = LstmConfig { num_layers: self.layers, direction: self.direction, ..LstmConfig::new(self.input_size, self.hidden_size) };
        let mut random = Random(1);
        let bound = 1.0 / (self.hidden_size as f32).sqrt();
        let gates = GATES * self.hidden_size;
        let cells = (0..config.num_cells()).map(|number| {
            let input_size = config.layer_input_size(number / config.num_directions());
            CellWeights {
                weight_ih: Array2::from_shape_simple_fn((gates, input_size), || random.uniform(bound)),
                weight_hh: Array2::from_shape_simple_fn((gates, self.hidden_size), || random.uniform(bound)),
                bias_ih: Some(Array1::from_shape_simple_fn(gates, || random.uniform(bound))),
                bias_hh: Some(Array1::from_shape_simple_fn(gates, || random.uniform(bound))),
                weight_hr: None,
                peepholes: None,
                layer_norm: None,
            }
        });
        let cells = cells.collect();
        let x = Array3::from_shape_simple_fn((self.seq_len, self.batch, self.input_size), || random.uniform(1.0));
        Ok((Network::from_lstm(Lstm::new(config, cells)?, false), x))
    }
}

/// The linear congruential generator of Knuth's MMIX: the same numbers everywhere.
struct Random(u64);

impl Random {
    /// The next number, uniform in `±bound`.
    fn uniform(&mut self, bound: f32) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // the upper 24 bits are the good ones, and all that a float32 holds
        let unit = (self.0 >> 40) as f32 / (1_u64 << 24) as f32;
        (2.0 * unit - 1.0) * bound
    }
}
