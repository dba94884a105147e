//! Which adapter is tried next, where the first choice does not open.

use crate::device::{DeviceInfo, DeviceRequest};
use crate::error::Error;
use crate::gpu::{self, NoFit};

/// The adapters of this machine, without those that were tried in vain.
pub(super) struct Candidates {
    infos: Vec<DeviceInfo>,
    /// what was tried, and what became of it
    tried: Vec<String>,
}

impl Candidates {
    pub(super) fn new(infos: Vec<DeviceInfo>) -> Self {
        Self { infos, tried: Vec::new() }
    }

    /// The adapter that fits the request best, by number, and why it is that one.
    pub(super) fn best(&self, request: &DeviceRequest) -> Result<(usize, String), NoFit> {
        let infos: Vec<&DeviceInfo> = self.infos.iter().collect();
        let tried = self.tried.join("; ");
        match gpu::choose(&infos, request) {
            choice if self.tried.is_empty() => choice,
            Ok((number, _)) => Ok((number, format!("the next GPU found, as {tried}"))),
            Err(mut no_fit) => {
                no_fit.why = tried;
                Err(no_fit)
            }
        }
    }

    /// Leaves out adapter `number` from now on, which fits and does not open; `error` says so.
    pub(super) fn strike(&mut self, number: usize, error: &Error) {
        self.tried.push(error.to_string());
        self.infos[number].unusable = Some(error.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{DeviceKind, GraphicsBackend, Hardware};

    #[test]
    fn an_adapter_that_does_not_open_makes_room_for_the_next_and_then_for_none() {
        let adapter = |name: &str, hardware| DeviceInfo {
            name: name.to_owned(),
            hardware,
            backend: Some(GraphicsBackend::Vulkan),
            ..DeviceInfo::cpu(DeviceKind::Gpu)
        };
        let infos = [("llvmpipe", Hardware::Cpu), ("Intel UHD", Hardware::Integrated), ("Radeon", Hardware::Discrete)];
        let mut candidates = Candidates::new(infos.map(|(name, hardware)| adapter(name, hardware)).into());
        let auto = DeviceRequest::default();
        assert_eq!(candidates.best(&auto).map(|(number, _)| number).ok(), Some(2));
        candidates.strike(2, &Error::limit("adapter Radeon does not open: no memory"));
        let (number, reason) = candidates.best(&auto).expect("there is another");
        assert_eq!((number, &reason[..]), (1, "the next GPU found, as adapter Radeon does not open: no memory"));
        candidates.strike(1, &Error::limit("adapter Intel UHD does not open: no driver"));
        let no_fit = candidates.best(&auto).expect_err("only a software adapter is left");
        assert_eq!(no_fit.why, "adapter Radeon does not open: no memory; adapter Intel UHD does not open: no driver");
    }
}
