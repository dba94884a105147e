// embed.wgsl: the vectors of ids.
//   y[row, k] = table[ids[row], k]
// Twin:       src/reference/embed.rs
// Dispatch:   (span / WORKGROUP_SIZE, ceil(num_rows * embedding_dim / span), 1), once a panel of the table
// Shared mem: none        Barriers: none
// Requires:   num_rows >= 1, num_embeddings >= 1, embedding_dim >= 1; no divisibility; an id beyond the table reads its last vector

struct EmbedParams {
    num_rows: u32,
    embedding_dim: u32,
    num_embeddings: u32,
    first_row: u32,                       // of ids and y
    span: u32,                            // threads along x, a multiple of WORKGROUP_SIZE
    first_embedding: u32,                 // of the panel of the table that is bound
    panel_embeddings: u32,                // of it; all of them where the table is in one piece
    _pad0: u32,
}

@group(0) @binding(0) var<uniform>             params: EmbedParams;
@group(0) @binding(1) var<storage, read>       table:  array<f32>;           // [panel_embeddings, E]
@group(0) @binding(2) var<storage, read>       ids:    array<u32>;           // [rows]
@group(0) @binding(3) var<storage, read_write> y:      array<f32>;           // [rows, E]

@compute @workgroup_size(WORKGROUP_SIZE)
fn embed(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let place = group.y * params.span + group.x * WORKGROUP_SIZE + lane;
    if (place >= params.num_rows * params.embedding_dim) {
        return;
    }
    let row = params.first_row + place / params.embedding_dim;
    let k = place % params.embedding_dim;
    // the host refuses ids beyond the table; no index depends on that
    let id = min(ids[row], params.num_embeddings - 1u) - params.first_embedding;
    // below the panel as well, where the difference wraps
    if (id >= params.panel_embeddings) {
        return;
    }
    y[row * params.embedding_dim + k] = table[id * params.embedding_dim + k];
}
