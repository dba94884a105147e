// two_float.wgsl: numbers of about 48 bits as the unevaluated sum of two f32, for stacks that amplify rounding.
//   A pair is vec2(high, low), |low| <= ulp(high) / 2. Sums: Knuth's TwoSum. Products: Dekker's and Veltkamp's, because a fused
//   multiply-add is one operation in name only on several drivers. A compiler that reorders f32 arithmetic (Metal's fast math)
//   makes the low parts useless, and the result as good as plain f32.
// Twin: src/reference/cell.rs
// These functions depend on no global declaration.

const SPLITTER: f32 = 4097.0;             // 2^12 + 1: halves of 12 bits multiply exactly

const LARGEST_SPLIT: f32 = 8e34;          // times SPLITTER it is still finite
const LARGEST_SUM: f32 = 3.4e38;

struct Pair4 {
    high: vec4<f32>,
    low: vec4<f32>,
}

// sum + weight * value, for four outputs at once
fn add_product4(sum: Pair4, weight: vec4<f32>, value: vec4<f32>) -> Pair4 {
    let product = weight * value;
    let split_weight = weight * SPLITTER;
    let weight_high = split_weight - (split_weight - weight);
    let weight_low = weight - weight_high;
    let split_value = value * SPLITTER;
    let value_high = split_value - (split_value - value);
    let value_low = value - value_high;
    let product_error = ((weight_high * value_high - product) + weight_high * value_low + weight_low * value_high) + weight_low * value_low;
    // what overflows when it is split has no low part that could be told
    let splits = max(abs(weight), abs(value)) < vec4<f32>(LARGEST_SPLIT);
    return add4(sum, Pair4(product, select(vec4<f32>(0.0), product_error, splits)));
}

fn add4(a: Pair4, b: Pair4) -> Pair4 {
    let sum = a.high + b.high;
    let b_part = sum - a.high;
    let error = (a.high - (sum - b_part)) + (b.high - b_part) + (a.low + b.low);
    let high = sum + error;
    let low = error - (high - sum);
    // an infinite sum stays that; its error would be infinity less infinity
    let finite = abs(sum) < vec4<f32>(LARGEST_SUM);
    return Pair4(select(sum, high, finite), select(vec4<f32>(0.0), low, finite));
}

fn add_pairs(a: vec2<f32>, b: vec2<f32>) -> vec2<f32> {
    let sum = add4(Pair4(vec4<f32>(a.x), vec4<f32>(a.y)), Pair4(vec4<f32>(b.x), vec4<f32>(b.y)));
    return vec2<f32>(sum.high.x, sum.low.x);
}

fn multiply_pairs(a: vec2<f32>, b: vec2<f32>) -> vec2<f32> {
    let exact = add_product4(Pair4(vec4<f32>(0.0), vec4<f32>(0.0)), vec4<f32>(a.x), vec4<f32>(b.x));
    return add_pairs(vec2<f32>(exact.high.x, exact.low.x), vec2<f32>(a.x * b.y + a.y * b.x, 0.0));
}
