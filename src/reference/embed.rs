//! The lookup of an embedding. Twin of `shaders/embed.wgsl`.

use crate::network::Embedding;

/// `table[id]`: `[E]`
pub(super) fn embed(embedding: &Embedding, id: u32) -> Vec<f64> {
    embedding.table().row(id as usize).iter().map(|&value| f64::from(value)).collect()
}
