use super::*;
use crate::device::Hardware;
use crate::error::ErrorKind;
use crate::network::{Activation, Precision};

fn profile() -> DeviceProfile {
    DeviceProfile::least(Hardware::Discrete)
}

fn layer(in_features: usize, out_features: usize, function: RowFunction) -> DenseSpec {
    DenseSpec { kind: DenseKind::Linear { in_features, out_features, bias: true }, function, precision: Precision::F32 }
}

fn plan(spec: &DenseSpec, rows: usize, features: usize, profile: &DeviceProfile) -> DensePlan {
    let request = DenseRequest { rows, features, x_row: 2, given: true };
    build_dense(spec, request, spec.products(rows, profile).expect("loops fit").first().copied(), profile)
}

fn params<P: Pod>(plan: &DensePlan, kernels: &[KernelId]) -> Vec<P> {
    let of_kernel = |dispatch: &&Dispatch| kernels.contains(&plan.specialisations[dispatch.specialisation].kernel);
    let read = |dispatch: &Dispatch| bytemuck::pod_read_unaligned(&plan.params[dispatch.params_offset as usize..][..size_of::<P>()]);
    plan.dispatches.iter().filter(of_kernel).map(read).collect()
}

const PRODUCTS: [KernelId; 2] = [KernelId::InputGates, KernelId::InputGatesRows];

#[test]
fn a_layer_without_a_function_leaves_its_quads() {
    let plan = plan(&layer(8, 5, RowFunction::None), 7, 5, &profile());
    assert_eq!((plan.dispatches.len(), plan.y, plan.row_stride), (1, BufferId::GatesX, 8));
    assert_eq!(plan.buffers, [(BufferId::GatesX, 7 * 8 * 4)]);
    assert_eq!(plan.flops(), 2 * 7 * 8 * 8, "what is missing from the last quad is multiplied as well");
}

#[test]
fn blocks_of_rows_share_their_quads_and_follow_each_other_in_the_result() {
    let (rows, features) = (4000, 101);
    for function in [RowFunction::LogSoftmax, RowFunction::Activation(Activation::Relu), RowFunction::None] {
        // a submit may have the products of 1000 rows
        let slow = DeviceProfile { flops_per_second: (2 * 16 * 104 * 1000) as f64 / 0.05, ..profile() };
        let plan = plan(&layer(16, features, function), rows, features, &slow);
        let products: Vec<InputGatesParams> = params(&plan, &PRODUCTS);
        let functions: Vec<RowFunctionParams> = params(&plan, &[KernelId::Softmax, KernelId::RowActivation]);
        assert!(products.len() >= 4 && plan.submits.len() >= 4, "{} products", products.len());
        assert_eq!(functions.len(), if function == RowFunction::None { 0 } else { products.len() });
        let mut next = 0;
        for (place, product) in products.iter().enumerate() {
            assert_eq!(product.x_row, 2 + next, "the input starts in row 2");
            match functions.get(place) {
                Some(of) => {
                    assert_eq!((of.first_row, of.num_rows, of.x_base, of.x_stride, product.gates_base), (next, product.num_rows, 0, 104, 0))
                }
                None => assert_eq!(product.gates_base, next * 26),
            }
            next += product.num_rows;
        }
        assert_eq!(next as usize, rows);
        let quads = plan.buffers.iter().find(|(id, _)| *id == BufferId::GatesX).expect("a product has quads").1;
        let largest = products.iter().map(|product| u64::from(product.num_rows)).max().unwrap_or(0);
        assert_eq!(quads, 26 * VEC4_BYTES * if function == RowFunction::None { rows as u64 } else { largest });
    }
}

#[test]
fn threads_cover_every_element_within_the_grid() {
    let small = DeviceProfile { max_workgroups: 7, ..profile() };
    let embedding =
        DenseSpec { kind: DenseKind::Embedding { num_embeddings: 9, embedding_dim: 13 }, function: RowFunction::None, precision: Precision::F32 };
    for (spec, rows, features) in [
        (embedding, 100, 13),
        (DenseSpec { kind: DenseKind::Function, function: RowFunction::Softmax, ..embedding }, 300, 3),
        (DenseSpec { kind: DenseKind::Function, function: RowFunction::Softmax, ..embedding }, 30, 5000),
        (DenseSpec { kind: DenseKind::Function, function: RowFunction::Activation(Activation::Tanh), ..embedding }, 33, 77),
    ] {
        let plan = plan(&spec, rows, features, &small);
        let dispatch = &plan.dispatches[0];
        let span = match spec.kind {
            DenseKind::Embedding { .. } => params::<EmbedParams>(&plan, &[KernelId::Embed])[0].span,
            _ => params::<RowFunctionParams>(&plan, &[KernelId::Softmax, KernelId::RowActivation])[0].span,
        };
        let constant = |name: &str| plan.specialisations[0].constants.iter().find(|(known, _)| *known == name).map(|(_, value)| *value as usize);
        let needed = rows * constant("LANES").unwrap_or(features);
        assert!(dispatch.workgroups[0] <= 7, "{:?}", dispatch.workgroups);
        assert_eq!(span, dispatch.workgroups[0] * constant("WORKGROUP_SIZE").unwrap_or(0) as u32);
        let threads = span as usize * dispatch.workgroups[1] as usize;
        assert!((needed..needed + 2 * span as usize).contains(&threads), "{threads} threads for {needed}");
    }
}

#[test]
fn what_does_not_fit_is_said() {
    let small = DeviceProfile { max_binding_bytes: 4096, max_loop_iterations: 1000, ..profile() };
    let spec = layer(4, 128, RowFunction::None);
    assert_eq!(spec.split(100, 128, &small).expect("a row fits"), 8);
    assert!(spec.fits_on_device(8, 128, &small) && !spec.fits_on_device(9, 128, &small));
    let error = layer(4, 2000, RowFunction::None).split(1, 2000, &small).expect_err("a row of 8000 bytes");
    assert_eq!((error.kind(), error.to_string().contains("need 8000 bytes for one row")), (ErrorKind::Limit, true), "{error}");
    let error = layer(1_000_000, 4, RowFunction::None).products(1, &small).expect_err("loops of a million inputs");
    assert!(error.to_string().contains("in_features = 1000000"), "{error}");
    let alone = DenseSpec { kind: DenseKind::Function, function: RowFunction::Softmax, precision: Precision::F32 };
    let wide = DeviceProfile { max_binding_bytes: 1 << 30, ..small };
    assert!(alone.split(1, 1 << 20, &wide).expect_err("loops").to_string().contains("features = 1048576"));
}

#[test]
fn numbers_of_rows_that_are_alike_share_a_form() {
    let spec = layer(64, 96, RowFunction::None);
    let product = |rows| spec.products(rows, &profile()).expect("loops fit")[0];
    assert_eq!(product(33), product(64));
    assert_ne!(product(1), product(4096), "one row is not multiplied as many are");
}
