//! Weights that are larger than what a device binds: the bits of one that binds them whole.

use std::sync::Arc;

use ndarray::{Array1, Array2, ShapeBuilder};

use super::{OPENING, an_adapter};
use crate::engine::recover::Place;
use crate::engine::{Backend, Selection};
use crate::gpu::GpuDevice;
use crate::network::{Activation, CellActivations, CellWeights, Direction, LayerNormWeights};
use crate::{
    DenseStage, Embedding, Engine, Inputs, Linear, Lstm, LstmConfig, Network, Options, Outputs, Precision, Result, RowFunction, ScheduleName, Stage,
    Tuning,
};

/// Bytes that the small device binds: the vectors of a stack of two layers, and a third of its recurrent weights.
const SMALL: u64 = 20_480;

/// Numbers from -0.5 to 0.5 that differ from place to place and from `seed` to `seed`.
fn numbers<Sh: ShapeBuilder>(shape: Sh, seed: usize) -> ndarray::Array<f32, Sh::Dim> {
    let mut place = seed * 7919;
    ndarray::Array::from_shape_simple_fn(shape, || {
        place += 1;
        (place * 2_654_435_761 % 1009) as f32 / 1009.0 - 0.5
    })
}

fn lstm(config: &LstmConfig) -> Result<Lstm> {
    let (gates, hidden) = (4 * config.hidden_size, config.hidden_size);
    let cells = (0..config.num_cells()).map(|number| CellWeights {
        weight_ih: numbers((gates, config.layer_input_size(number / config.num_directions())), number),
        weight_hh: numbers((gates, config.out_size()), number + 10),
        bias_ih: Some(numbers(gates, number + 20)),
        bias_hh: Some(numbers(gates, number + 30)),
        weight_hr: config.proj_size.map(|proj| numbers((proj, hidden), number + 40)),
        peepholes: config.peepholes.then(|| numbers((3, hidden), number + 50)),
        layer_norm: config.layer_norm.map(|_| LayerNormWeights {
            gamma_ih: Array1::ones(gates),
            gamma_hh: numbers(gates, number + 60),
            gamma_c: Array1::ones(hidden),
            beta_c: numbers(hidden, number + 70),
        }),
    });
    Lstm::new(config.clone(), cells.collect())
}

/// Engines that bind what their adapter allows, and `SMALL` bytes.
fn engines() -> Result<Option<[Engine; 2]>> {
    let Some(adapter) = an_adapter() else { return Ok(None) };
    let open = |binding: Option<u64>| -> Result<Engine> {
        let mut device = pollster::block_on(GpuDevice::open(&adapter, OPENING))?;
        device.profile.max_binding_bytes = binding.unwrap_or(device.profile.max_binding_bytes);
        let selection = Selection { device: device.info().clone(), reason: "for a test".to_owned() };
        Ok(Engine { selection: Arc::new(selection), place: Place::new(Backend::Gpu(Arc::new(device))), lacks_a_gpu: false })
    };
    Ok(Some([open(None)?, open(Some(SMALL))?]))
}

fn run(engine: &Engine, network: &Network, options: &Options, inputs: &Inputs<'_>) -> Result<Outputs> {
    engine.session(network, options.clone())?.run(inputs)
}

/// How many buffers of weights a stack takes, of `SMALL` bytes at most.
fn buffers(lstm: &Lstm, precision: Precision) -> Result<usize> {
    Ok(crate::gpu::pack::pack(lstm, precision, SMALL)?.arenas.len())
}

#[test]
fn stacks_of_every_variant() -> Result<()> {
    let Some([whole, small]) = engines()? else { return Ok(()) };
    let plain = LstmConfig { num_layers: 2, direction: Direction::Bidirectional, ..LstmConfig::new(24, 40) };
    let amplifying = CellActivations { output: Activation::Relu, ..CellActivations::default() };
    let x = numbers((5, 3, 24), 1);
    let lens = Array1::from_vec(vec![5_i64, 2, 0]);
    for (name, config, precision) in [
        ("plain", plain.clone(), Precision::F32),
        ("float16", plain.clone(), Precision::F16),
        ("int8", LstmConfig { hidden_size: 79, num_layers: 1, ..plain.clone() }, Precision::Int8),
        ("peepholes", LstmConfig { peepholes: true, ..plain.clone() }, Precision::F32),
        ("projection", LstmConfig { proj_size: Some(38), hidden_size: 78, num_layers: 1, ..plain.clone() }, Precision::F32),
        ("layer norm", LstmConfig { layer_norm: Some(1e-5), ..plain.clone() }, Precision::F32),
        ("pairs", LstmConfig { activations: [amplifying; 2], ..plain }, Precision::F32),
    ] {
        let lstm = lstm(&config)?;
        let count = buffers(&lstm, precision)?;
        assert!(count > 3 * config.num_layers, "{name}: {count} buffers");
        let network = Network::from_lstm(lstm, false);
        let options = Options { precision, schedule: Some(ScheduleName::PerStep), tuning: Tuning::Model, ..Options::default() };
        for ragged in [false, true] {
            let inputs = Inputs::new().with("x", x.view());
            let inputs = if ragged { inputs.with("sequence_lens", lens.view()) } else { inputs };
            assert_eq!(run(&small, &network, &options, &inputs)?, run(&whole, &network, &options, &inputs)?, "{name}, ragged: {ragged}");
        }
    }
    Ok(())
}

#[test]
fn tables_and_layers_around_a_stack() -> Result<()> {
    let Some([whole, small]) = engines()? else { return Ok(()) };
    let (words, features) = (1000, 203);
    for (function, precision) in
        [(RowFunction::None, Precision::F32), (RowFunction::LogSoftmax, Precision::F32), (RowFunction::None, Precision::Int8)]
    {
        let table = Embedding::new(numbers((words, 24), 2))?;
        let linear = Linear::new(numbers((features, 40), 3), Some(numbers(features, 4)))?;
        let stages = vec![
            ("table".to_owned(), Stage::Dense(DenseStage::Embedding(table))),
            ("lstm".to_owned(), Stage::Lstm(lstm(&LstmConfig::new(24, 40))?)),
            ("linear".to_owned(), Stage::Dense(DenseStage::Linear(linear, function))),
        ];
        let network = Network::from_stages(stages, false)?;
        // the ends of every panel of the table
        let ids: Array2<i64> =
            Array2::from_shape_fn((8, 8), |(step, row)| [0, 191, 192, 383, 384, 575, 576, 767, 768, 959, 960, 999][(8 * step + row) % 12]);
        let name = network.inputs()[0].name.clone();
        let inputs = Inputs::new().with(name, ids.view());
        let options = Options { precision, schedule: Some(ScheduleName::PerStep), tuning: Tuning::Model, ..Options::default() };
        let (small, whole) = (run(&small, &network, &options, &inputs)?, run(&whole, &network, &options, &inputs)?);
        let y = whole.iter().next().and_then(|(_, tensor)| tensor.as_f32()).expect("a float32 output");
        assert!(y.iter().all(|value| value.is_finite()) && y.iter().any(|value| *value != 0.0));
        assert_eq!(small, whole, "{function:?}, {precision}");
    }
    Ok(())
}
