// plain_cell.wgsl: one step of a cell from the two parts of its pre-activations.
// Twin: src/reference/step.rs
// These functions depend on cell.wgsl and two_float.wgsl, and on no other global declaration.

// (c_next, h_next)
fn step_cell(dir: u32, gates: Pair4, product: Pair4, c_prev: f32, peephole: vec4<f32>) -> vec2<f32> {
    let next = next_cell(dir, gates.high + product.high, c_prev, peephole);
    return vec2<f32>(next.c_next, cell_output(dir, next.o_raw, next.c_next));
}
