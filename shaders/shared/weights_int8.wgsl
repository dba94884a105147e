// weights_int8.wgsl: packed weights as int8, 4 bytes a quad. Sums are of whole numbers times f32; a scale for every output follows.
// These functions depend on no global declaration but their own.

@group(0) @binding(1) var<storage, read>       weights: array<u32>;          // packed matrices, one after the other

alias Quad = u32;

const HAS_SCALES: bool = true;

fn unpack_quad(quad: Quad) -> vec4<f32> {
    return vec4<f32>(unpack4xI8(quad));
}
