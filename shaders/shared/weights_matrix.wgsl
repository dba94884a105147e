// weights_matrix.wgsl: the packed weights of weights_f16.wgsl, as single numbers, which cooperative matrices load.
// These functions depend on no global declaration but their own.

@group(0) @binding(1) var<storage, read>       weights: array<f16>;          // packed matrices, one after the other

const HAS_SCALES: bool = false;
