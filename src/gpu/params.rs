//! The kernels' uniforms, as the shaders' structs of the same names have them.

use bytemuck::{Pod, Zeroable};

/// Declares a uniform struct together with the list of its members, which the contract test compares with the shader's.
macro_rules! params {
    ($(#[$doc:meta])* $name:ident { $($field:ident,)* }) => {
        $(#[$doc])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
        pub struct $name {
            $(#[allow(missing_docs, reason = "the shader's struct of the same name explains its members")] pub $field: u32,)*
        }

        impl $name {
            pub(super) const FIELDS: &'static [(&'static str, usize)] = &[$((stringify!($field), std::mem::offset_of!($name, $field)),)*];
        }
    };
}

params! {
    /// Uniforms of `input_gates.wgsl`.
    InputGatesParams {
        num_rows, batch, input_size, hidden_size, weight_base, weight_stride, vectors_base, vectors_slot, vectors_stride,
        gates_stride, gates_low_offset, x_row, x_row_stride, gates_base, first_output, num_outputs,
    }
}
params! {
    /// Uniforms of `norm_gates.wgsl`.
    NormGatesParams { num_rows, hidden_size, gates_stride, vectors_base, vectors_slot, vectors_stride, _pad0, _pad1, }
}
params! {
    /// Uniforms of `step.wgsl`.
    StepParams {
        batch, hidden_size, out_size, y_size, weight_base, weight_stride, concat_base, concat_stride,
        vectors_base, vectors_slot, vectors_stride, hoisted, gates_base, gates_stride, gates_low_offset, t, t_stride,
        h_len, slot, slot_stride, cell, last_cell, out_base, first_unit, num_units, _pad0, _pad1, _pad2,
    }
}
params! {
    /// Uniforms of `resident.wgsl`.
    ResidentParams {
        batch, hidden_size, y_size, num_steps, weight_base, weight_stride, vectors_base, vectors_slot, vectors_stride,
        gates_base, gates_stride, t, t_stride, t_step, t_step_stride, h_len, slot, next_slot, cell, _pad0,
    }
}
params! {
    /// Uniforms of `norm_cell.wgsl`.
    NormCellParams {
        batch, hidden_size, out_size, y_size, vectors_base, vectors_slot, vectors_stride, gates_base, gates_stride, t, t_stride,
        h_len, slot, cell, gates_h_base, cell_out_base,
    }
}
params! {
    /// Uniforms of `project.wgsl`.
    ProjectParams {
        batch, hidden_size, proj_size, y_size, weight_base, weight_stride, scale_base, scale_stride, cell_out_base, t, t_stride,
        h_len, slot, slot_stride, cell, last_cell, first_quad, num_quads, _pad0, _pad1,
    }
}
params! {
    /// Uniforms of `embed.wgsl`.
    EmbedParams { num_rows, embedding_dim, num_embeddings, first_row, span, first_embedding, panel_embeddings, _pad0, }
}
params! {
    /// Uniforms of `row_activation.wgsl` and of `softmax.wgsl`.
    RowFunctionParams { num_rows, features, x_base, x_stride, first_row, span, _pad0, _pad1, }
}
params! {
    /// Uniforms of `relayout.wgsl`.
    RelayoutParams {
        len, span, x_base, y_base, size_1, size_2, size_3, _pad0, x_stride_0, x_stride_1, x_stride_2, x_stride_3,
        y_stride_0, y_stride_1, y_stride_2, y_stride_3,
    }
}
params! {
    /// Uniforms of `roofline.wgsl`.
    RooflineParams { num_rounds, _pad0, _pad1, _pad2, }
}
