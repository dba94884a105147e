//! Operators of ONNX Runtime's own.

use super::cells::{floats_of, graph_of, is_cell, torch_cell, torch_cell_biases};
use super::*;
use crate::formats::onnx::tensor::{INT8, UINT8};

fn own(mut node: NodeProto) -> NodeProto {
    "com.microsoft".clone_into(&mut node.domain);
    node
}

/// A cell whose products are fused ones is a cell all the same.
#[test]
fn fused_products_are_taken_apart() {
    let mut model = torch_cell();
    model.opset_import.push(OperatorSetIdProto { domain: "com.microsoft".to_owned(), version: 1 });
    let graph = graph(&mut model);
    "FusedGemm".clone_into(&mut graph.node[0].op_type);
    "com.microsoft".clone_into(&mut graph.node[0].domain);
    let product = NodeProto { attribute: vec![int("transB", 1), float("alpha", 1.0)], ..node("FusedMatMul", "", &["x", "W"], &["plain"]) };
    graph.node[1] = own(product);
    graph.node.push(node("Add", "", &["plain", "b_x"], &["of_x"]));
    is_cell(&model, [0, 1, 2, 3], Some(torch_cell_biases()));
}

#[test]
fn integers_with_scales_are_worth_their_product() {
    let bytes = |name: &str, dims: &[i64], data_type: i32, values: Vec<i32>| TensorProto {
        name: name.to_owned(),
        dims: dims.to_vec(),
        data_type,
        int32_data: values,
        ..TensorProto::default()
    };
    let lstm_node = node("DynamicQuantizeLSTM", "lstm", &["X", "W", "R", "", "", "", "", "", "W_s", "W_z", "R_s", "R_z"], &["Y"]);
    let weights = vec![
        bytes("W", &[1, 3, 8], UINT8, (0..24).collect()),
        bytes("R", &[1, 2, 8], INT8, (-8..8).collect()),
        floats_of("W_s", &[1, 8], (1..9).map(|number| number as f32).collect()),
        bytes("W_z", &[1, 8], UINT8, (0..8).collect()),
        floats_of("R_s", &[1], vec![0.5]),
        bytes("R_z", &[1], INT8, vec![2]),
    ];
    let node = NodeProto { attribute: vec![int("hidden_size", 2)], ..own(lstm_node) };
    let mut model = graph_of(vec![node], weights, &[("X", &[0, 0, 3])], &["Y"]);
    model.opset_import.push(OperatorSetIdProto { domain: "com.microsoft".to_owned(), version: 1 });
    let network = read(&model).expect("a model");
    let cell = lstm(&network).cells().next().expect("a cell").clone();
    // outputs i, o, f, c of the operator as i, f, g, o
    let outputs = [0, 1, 4, 5, 6, 7, 2, 3];
    for (row, output) in outputs.into_iter().enumerate() {
        for input in 0..3 {
            let integer = 8 * input + output;
            assert_eq!(cell.weight_ih[[row, input]], (integer - output) as f32 * (output + 1) as f32);
        }
        for input in 0..2 {
            assert_eq!(cell.weight_hh[[row, input]], ((8 * input + output) as f32 - 8.0 - 2.0) * 0.5);
        }
    }
    let note = network.notes().iter().find(|note| note.contains("uint8")).expect("a note").clone();
    assert!(note.contains("node `lstm`") && note.contains("not done here"), "{note}");
}
