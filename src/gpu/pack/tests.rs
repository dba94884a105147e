use ndarray::{Array1, Array2};

use super::*;
use crate::error::ErrorKind;
use crate::network::{Direction, LstmConfig};

fn numbered(config: &LstmConfig) -> Lstm {
    let (gates, hidden) = (GATES * config.hidden_size, config.hidden_size);
    let cells = (0..config.num_cells()).map(|number| {
        let base = number as f32 * 1e4;
        CellWeights {
            weight_ih: Array2::from_shape_fn((gates, config.input_size), |(row, k)| base + (row * 10 + k) as f32),
            weight_hh: Array2::from_shape_fn((gates, config.out_size()), |(row, k)| base + 5e3 + (row * 10 + k) as f32),
            bias_ih: Some(Array1::from_shape_fn(gates, |row| base + row as f32)),
            bias_hh: Some(Array1::from_elem(gates, 0.5)),
            weight_hr: config.proj_size.map(|proj| Array2::from_shape_fn((proj, hidden), |(p, unit)| base + (p * 100 + unit) as f32)),
            peepholes: None,
            layer_norm: None,
        }
    });
    Lstm::new(config.clone(), cells.collect()).expect("a valid stack")
}

fn floats(packed: &PackedWeights, region: Region, dir: u32, element: usize) -> [f32; 4] {
    let quad = (region.base + dir * region.stride) as usize + element;
    std::array::from_fn(|at| f32::from_bits(packed.arenas[region.arena][4 * quad + at]))
}

#[test]
fn element_k_unit_holds_the_four_gates() {
    let config = LstmConfig { direction: Direction::Bidirectional, proj_size: Some(2), ..LstmConfig::new(3, 5) };
    let packed = pack(&numbered(&config), Precision::F32, 1 << 20).expect("it fits");
    let layer = &packed.layout.layers[0];
    let (k, unit) = (2, 4);
    // row gate*H + unit of weight_ih holds row * 10 + k
    assert_eq!(floats(&packed, layer.weight_ih, 0, k * 5 + unit), [42.0, 92.0, 142.0, 192.0]);
    assert_eq!(floats(&packed, layer.weight_ih, 1, k * 5 + unit), [10042.0, 10092.0, 10142.0, 10192.0]);
    assert_eq!(floats(&packed, layer.weight_hh, 0, 5 + unit), [5041.0, 5091.0, 5141.0, 5191.0]);
    assert_eq!(floats(&packed, layer.weight_hr, 0, unit), [4.0, 104.0, 0.0, 0.0]);
    assert_eq!(packed.vectors[layer.vectors as usize + unit], [4.5, 9.5, 14.5, 19.5]);
    // weight_hh follows weight_ih
    assert!(layer.joined && layer.weight_hh.base == layer.weight_ih.base + 3 * 5 && layer.weight_hh.stride == (3 + 2) * 5);
}

#[test]
fn a_linear_layer_is_packed_as_an_input_product() {
    let weight = Array2::from_shape_fn((5, 3), |(row, k)| (10 * row + k) as f32);
    let linear = Linear::new(weight, Some(Array1::from_shape_fn(5, |row| row as f32))).expect("a valid layer");
    let packed = pack_linear(&linear, Precision::F32, 1 << 20).expect("it fits");
    let quad = |at: usize| -> [f32; 4] { std::array::from_fn(|part| f32::from_bits(packed.arenas[0][4 * at + part])) };
    // two quads of outputs for every input
    assert_eq!([quad(0), quad(1), quad(4)], [[0.0, 10.0, 20.0, 30.0], [40.0, 0.0, 0.0, 0.0], [2.0, 12.0, 22.0, 32.0]]);
    assert_eq!(packed.vectors[..2], [[0.0, 1.0, 2.0, 3.0], [4.0, 0.0, 0.0, 0.0]]);
    let packed = pack_linear(&linear, Precision::Int8, 1 << 20).expect("it fits");
    assert_eq!(packed.vectors[SCALE_IH_ROW * 2 + 1], [42.0 / 127.0, 1.0, 1.0, 1.0]);
    let error = pack_linear(&linear, Precision::F32, 64).expect_err("it does not fit");
    assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
}

#[test]
fn every_precision_stores_what_the_network_says_it_is_worth() {
    let config = LstmConfig { proj_size: Some(3), ..LstmConfig::new(3, 5) };
    let lstm = numbered(&config);
    for precision in [Precision::F16, Precision::Int8] {
        let packed = pack(&lstm, precision, 1 << 20).expect("it fits");
        let worth = lstm.stored_as(precision).expect("it can be stored");
        let layer = packed.layout.layers[0];
        for k in 0..3 {
            for unit in 0..5 {
                let quad = layer.weight_ih.base as usize + k * 5 + unit;
                let words = &packed.arenas[0][quad * precision.weight_bytes()..][..precision.weight_bytes()];
                let scales = packed.vectors[layer.vectors as usize + 6 * 5 + unit];
                for gate in 0..GATES {
                    let stored = match precision {
                        Precision::F16 => f16::from_bits((words[gate / 2] >> (16 * (gate % 2))) as u16).to_f32(),
                        _ => f32::from(words[0].to_le_bytes()[gate] as i8) * scales[gate],
                    };
                    assert_eq!(stored, worth.cell(0, 0).weight_ih[[gate * 5 + unit, k]], "{precision}: k {k}, unit {unit}, gate {gate}");
                }
            }
        }
    }
}

#[test]
fn matrices_part_and_go_to_further_arenas_where_one_is_full() {
    let config = LstmConfig { num_layers: 3, ..LstmConfig::new(5, 5) };
    let whole = pack(&numbered(&config), Precision::F32, 1 << 20).expect("it fits");
    assert!(whole.arenas.len() == 1 && whole.layout.layers.iter().all(|layer| layer.joined));
    // all layers are alike, and a step over several of them counts on it
    let bases: Vec<_> = whole.layout.layers.iter().map(|layer| (layer.weight_ih.base, layer.vectors)).collect();
    assert_eq!(bases, [(0, 0), (50, 40), (100, 80)]);
    let vectors = (3 * VECTOR_ROWS * 5) as u64 * VEC4_BYTES;
    let split = pack(&numbered(&config), Precision::F32, vectors).expect("every matrix fits an arena");
    assert!(split.arenas.len() > 1 && split.layout.layers.iter().all(|layer| layer.joined));
    assert_eq!(split.bytes(), whole.bytes());
    let error = pack(&numbered(&config), Precision::F32, vectors - 1).expect_err("the vectors do not fit");
    assert_eq!(error.kind(), ErrorKind::Limit);
    assert!(error.to_string().contains("max_storage_buffer_binding_size"), "{error}");
    // a wide input: either matrix fits, both together do not
    let wide = LstmConfig::new(60, 60);
    let parted = pack(&numbered(&wide), Precision::F32, 60 * 60 * VEC4_BYTES).expect("each matrix fits");
    assert!(!parted.layout.layers[0].joined && parted.arenas.len() == 2);
}

#[test]
fn a_matrix_larger_than_a_buffer_lies_in_panels_of_outputs() {
    let config = LstmConfig { direction: Direction::Bidirectional, ..LstmConfig::new(40, 5) };
    let lstm = numbered(&config);
    let whole = pack(&lstm, Precision::F32, 1 << 20).expect("it fits");
    // two units of weight_ih in every direction
    let parted = pack(&lstm, Precision::F32, 2 * 2 * 40 * VEC4_BYTES).expect("a unit fits");
    let (of_whole, of_parted) = (whole.layout.layers[0], parted.layout.layers[0]);
    assert!(of_parted.weight_ih.is_split() && !of_parted.weight_hh.is_split() && !of_parted.joined);
    assert_eq!(parted.bytes(), whole.bytes());
    let panels: Vec<_> = of_parted.weight_ih.panels(5).collect();
    assert_eq!(panels.iter().map(|panel| panel.outputs).collect::<Vec<_>>(), [2, 2, 1]);
    for panel in panels {
        let region = Region { arena: panel.arena, base: panel.base, stride: panel.stride, panel: 0 };
        for (dir, k, unit) in [(0, 0, 0), (0, 39, panel.outputs - 1), (1, 7, 0), (1, 39, panel.outputs - 1)] {
            let expected = floats(&whole, of_whole.weight_ih, dir, k * 5 + panel.first + unit);
            assert_eq!(floats(&parted, region, dir, k * panel.outputs + unit), expected, "dir {dir}, k {k}, unit {unit} of {panel:?}");
        }
    }
    let error = pack(&lstm, Precision::F32, 2 * 40 * VEC4_BYTES - 1).expect_err("no unit fits");
    assert!(error.kind() == ErrorKind::Limit && error.to_string().contains("one output of weight_ih of layer 0"), "{error}");
}
