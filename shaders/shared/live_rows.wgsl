// live_rows.wgsl: which rows of a time step are within their length.
// These functions depend on the following declarations: `params` with `t`, `t_stride` and `batch`; `lens`; `RAGGED`; `GROUP_ROWS` of a product

fn is_live(z: u32, row: u32) -> bool {
    if (RAGGED) {
        return params.t + z * params.t_stride < lens[row];
    }
    return true;
}

// Whether the group of rows that starts at `first` has a live one.
fn any_live(z: u32, first: u32) -> bool {
    if (!RAGGED) {
        return true;
    }
    var live = false;
    for (var row = first; row < min(first + GROUP_ROWS, params.batch); row++) {
        live = live || is_live(z, row);
    }
    return live;
}
