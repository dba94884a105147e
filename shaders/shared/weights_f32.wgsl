// weights_f32.wgsl: packed weights as f32, 16 bytes a quad.
// These functions depend on no global declaration but their own.

@group(0) @binding(1) var<storage, read>       weights: array<vec4<f32>>;    // packed matrices, one after the other

alias Quad = vec4<f32>;

const HAS_SCALES: bool = false;

fn unpack_quad(quad: Quad) -> vec4<f32> {
    return quad;
}
