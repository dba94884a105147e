// softmax.wgsl: softmax or its logarithm over every row, from rows with gaps between them to rows without.
//   y[first_row + row, k] = exp(d[k]) / sum_j exp(d[j])   with d[k] = x[x_base + row * x_stride + k] - max_j x[.. + j]
//   LOG: y[first_row + row, k] = d[k] - log(sum_j exp(d[j]))
//   LANES threads share a row: each adds up every LANES-th feature, then pairs of threads what they have, in the same order on every device.
//   A feature of -infinity is 0, or -infinity; a row of nothing else, and one with a NaN or +infinity, is NaN.
// Twin:       src/reference/row_function.rs
// Dispatch:   (span / WORKGROUP_SIZE, ceil(num_rows * LANES / span), 1)
// Shared mem: 4 * WORKGROUP_SIZE bytes        Barriers: uniform, 2 * (log2(LANES) + 2)
// Requires:   num_rows >= 1, features >= 1, LANES a power of two that divides WORKGROUP_SIZE; x and y are different buffers

struct RowFunctionParams {
    num_rows: u32,
    features: u32,
    x_base: u32,
    x_stride: u32,                        // from row to row of x
    first_row: u32,                       // of y
    span: u32,                            // threads along x, a multiple of WORKGROUP_SIZE
    _pad0: u32,
    _pad1: u32,
}

@group(0) @binding(0) var<uniform>             params: RowFunctionParams;
@group(0) @binding(1) var<storage, read>       x:      array<f32>;           // [num_rows, F], rows x_stride apart
@group(0) @binding(2) var<storage, read_write> y:      array<f32>;           // [rows, F]

override LOG: bool = false;

// exp of what is at most 0, or NaN; below this it is 0 in f32, and so for -infinity, which drivers need not know
const LEAST: f32 = -200.0;

var<workgroup> parts: array<f32, WORKGROUP_SIZE>;                            // [rows of the group, LANES]

fn exp_below_0(d: f32) -> f32 {
    return exp(select(d, LEAST, d < LEAST));
}

// All threads of the workgroup must call these together.
fn max_of_row(value: f32, lane: u32) -> f32 {
    parts[lane] = value;
    workgroupBarrier();
    for (var stride = LANES / 2u; stride > 0u; stride /= 2u) {
        if (lane % LANES < stride) {
            parts[lane] = max(parts[lane], parts[lane + stride]);
        }
        workgroupBarrier();
    }
    let largest = parts[lane - lane % LANES];
    workgroupBarrier();
    return largest;
}

fn sum_of_row(value: f32, lane: u32) -> f32 {
    parts[lane] = value;
    workgroupBarrier();
    for (var stride = LANES / 2u; stride > 0u; stride /= 2u) {
        if (lane % LANES < stride) {
            parts[lane] += parts[lane + stride];
        }
        workgroupBarrier();
    }
    let sum = parts[lane - lane % LANES];
    workgroupBarrier();
    return sum;
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn softmax(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = (group.y * params.span + group.x * WORKGROUP_SIZE + lane) / LANES;
    let first = lane % LANES;
    // rows past the last one have nothing to add and write nothing
    let features = select(0u, params.features, row < params.num_rows);
    let x_base = params.x_base + row * params.x_stride;
    var largest = 0.0;
    if (features > 0u) {
        // a feature of the row for those that have none of their own: there is no infinity to start from
        largest = x[x_base + min(first, features - 1u)];
    }
    for (var k = first + LANES; k < features; k += LANES) {
        largest = max(largest, x[x_base + k]);
    }
    largest = max_of_row(largest, lane);
    var sum = 0.0;
    for (var k = first; k < features; k += LANES) {
        sum += exp_below_0(x[x_base + k] - largest);
    }
    sum = sum_of_row(sum, lane);
    var log_sum = 0.0;
    if (LOG) {
        log_sum = log(sum);
    }
    let y_base = (params.first_row + row) * params.features;
    for (var k = first; k < features; k += LANES) {
        let d = x[x_base + k] - largest;
        if (LOG) {
            y[y_base + k] = d - log_sum;
        } else {
            y[y_base + k] = exp_below_0(d) / sum;
        }
    }
}
