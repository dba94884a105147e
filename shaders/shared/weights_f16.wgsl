// weights_f16.wgsl: packed weights as f16, 8 bytes a quad. Unpacking needs no feature of the adapter; what is computed is f32.
// These functions depend on no global declaration but their own.

@group(0) @binding(1) var<storage, read>       weights: array<vec2<u32>>;    // packed matrices, one after the other

alias Quad = vec2<u32>;

const HAS_SCALES: bool = false;

fn unpack_quad(quad: Quad) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(quad.x), unpack2x16float(quad.y));
}
