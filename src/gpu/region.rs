//! Where a packed matrix is: in one piece, or, where it is larger than what the device binds, in panels of outputs that have a buffer each.
//!
//! Outputs are independent, so a panel is a smaller matrix and a dispatch of its own; no kernel sees more than one.

use crate::error::Error;

/// Whole workgroups of outputs of every form but the widest.
const OUTPUTS_STEP: usize = 64;

/// A packed matrix `[K, outputs]` of every direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Region {
    /// which buffer, or that of the first panel; others follow
    pub arena: usize,
    /// first quad of direction 0; 0 in panels
    pub base: u32,
    /// quads from direction 0 to direction 1, of all panels together
    pub stride: u32,
    /// outputs of a panel, of which the last one may have fewer; 0 where the matrix is in one piece
    pub panel: u32,
}

/// A part of a packed matrix that one buffer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Panel {
    /// which buffer
    pub(crate) arena: usize,
    /// first quad of direction 0
    pub(crate) base: u32,
    /// quads from direction 0 to direction 1
    pub(crate) stride: u32,
    /// the first output
    pub(crate) first: usize,
    pub(crate) outputs: usize,
}

impl Region {
    /// Whether it is in several buffers.
    pub fn is_split(self) -> bool {
        self.panel > 0
    }

    /// The parts of a matrix that has `outputs`.
    pub(crate) fn panels(self, outputs: usize) -> impl Iterator<Item = Panel> {
        let width = if self.is_split() { self.panel as usize } else { outputs };
        (0..outputs).step_by(width.max(1)).enumerate().map(move |(number, first)| {
            let len = width.min(outputs - first);
            let stride = if self.is_split() { self.stride / outputs as u32 * len as u32 } else { self.stride };
            Panel { arena: self.arena + number, base: self.base, stride, first, outputs: len }
        })
    }
}

/// Outputs of a panel of a matrix of `outputs`, for which there are `column_bytes` each, in buffers of at most `max_bytes`: 0 where all fit one, `None`
/// where none does.
pub(crate) fn panel_outputs(outputs: usize, column_bytes: u64, max_bytes: u64) -> Option<u32> {
    if outputs as u64 * column_bytes <= max_bytes {
        return Some(0);
    }
    let fit = usize::try_from(max_bytes / column_bytes).unwrap_or(usize::MAX).min(outputs);
    let whole = if fit > OUTPUTS_STEP { fit - fit % OUTPUTS_STEP } else { fit };
    u32::try_from(whole).ok().filter(|&panel| panel > 0)
}

/// That `what` takes more bytes than the adapter binds.
pub(crate) fn beyond_a_binding(what: &str, need: u64, allowed: u64) -> Error {
    Error::limit(format!("limit max_storage_buffer_binding_size: need {need} bytes for {what}, the adapter allows {allowed}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_have_every_output_once() {
        let region = Region { arena: 3, base: 0, stride: 7 * 200, panel: 64 };
        let panels: Vec<Panel> = region.panels(200).collect();
        let places: Vec<_> = panels.iter().map(|panel| (panel.arena, panel.first, panel.outputs, panel.stride)).collect();
        assert_eq!(places, [(3, 0, 64, 7 * 64), (4, 64, 64, 7 * 64), (5, 128, 64, 7 * 64), (6, 192, 8, 7 * 8)]);
        let whole = Region { arena: 1, base: 5, stride: 11, panel: 0 };
        assert_eq!(whole.panels(200).collect::<Vec<_>>(), [Panel { arena: 1, base: 5, stride: 11, first: 0, outputs: 200 }]);
    }

    #[test]
    fn a_panel_is_as_wide_as_its_buffer_allows() {
        assert_eq!(panel_outputs(200, 10, 2000), Some(0));
        assert_eq!(panel_outputs(200, 10, 1999), Some(192));
        assert_eq!(panel_outputs(200, 10, 639), Some(63));
        assert_eq!(panel_outputs(200, 10, 10), Some(1));
        assert_eq!(panel_outputs(200, 10, 9), None);
    }
}
