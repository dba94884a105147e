//! Networks as files: what is written is read again, as the same network.

use cellgate::{CellWeights, Lstm, Network, Precision, Result};

use super::network::NetworkPlan;
use super::play::Player;
use super::transcript::{Outcome, finding};

impl Player<'_> {
    /// Writes the network as a file, and reads that as another network.
    pub(super) fn save(&mut self, network: usize, precision: Precision, file: bool) {
        let precision = if self.how.float32 && precision == Precision::F16 { Precision::F32 } else { precision };
        let network = self.networks[network % self.networks.len()].clone();
        match saved(&network, precision, file && !self.how.float32, &self.plan.network) {
            Ok(again) => {
                let facts = format!("{} {:?} {:?}", again.num_parameters(), again.inputs(), again.outputs());
                self.push("save", Outcome::Said(facts));
                self.networks.push(again);
            }
            Err(error) => self.push("save", Outcome::refused(&error)),
        }
    }
}

/// The network that a file of `network` is.
fn saved(network: &Network, precision: Precision, file: bool, plan: &NetworkPlan) -> Result<Network> {
    let (bytes, saved) = network.to_safetensors(precision)?;
    let read = if file {
        let path = std::env::temp_dir().join(format!("cellgate-fuzz-{}.safetensors", std::process::id()));
        network.save_safetensors(&path, precision)?;
        Network::open(&path)
    } else {
        Network::from_bytes(&bytes)
    };
    let again = read.unwrap_or_else(|error| finding(&format!("a file of a network is not read: {error:?}")));
    if !saved.complete {
        finding(&format!("a chain was not written as a whole: {saved:?}"));
    }
    if precision == Precision::F32 {
        network.lstms().zip(again.lstms()).for_each(|((_, lstm), (_, again))| same_weights(lstm, again));
    }
    if let Some(config) = plan.first_config() {
        // the file says itself what it is: both or an error
        let _ = Network::from_bytes_with(&bytes, config, plan.batch_first);
    }
    Ok(again)
}

/// Ends the process where a file has changed a stack.
fn same_weights(lstm: Option<&Lstm>, again: Option<&Lstm>) {
    let (lstm, again) = lstm.zip(again).unwrap_or_else(|| finding("a stack without weights"));
    let config = |lstm: &Lstm| {
        let mut config = lstm.config().clone();
        // of the direction that there is not, a file says nothing
        config.activations[1] = config.activations[config.num_directions() - 1];
        config
    };
    let tensors = |lstm: &Lstm| {
        let dirs = lstm.config().num_directions();
        let cells = (0..lstm.config().num_cells()).map(|number| lstm.cell(number / dirs, number % dirs));
        cells.map(|cell| format!("{:?}", bits(cell))).collect::<Vec<_>>()
    };
    if config(lstm) != config(again) {
        finding(&format!("a file made {:?} of {:?}", again.config(), lstm.config()));
    }
    if tensors(lstm) != tensors(again) {
        finding(&format!("other weights after they were written and read:\n{again:?}\n{lstm:?}"));
    }
}

/// All numbers of a cell, tensor by tensor, every NaN and both zeros told apart.
fn bits(cell: &CellWeights) -> Vec<Vec<u32>> {
    let norm = cell.layer_norm.iter().flat_map(|norm| [&norm.gamma_ih, &norm.gamma_hh, &norm.gamma_c, &norm.beta_c]);
    let vectors = [&cell.bias_ih, &cell.bias_hh].into_iter().flatten().chain(norm).map(|vector| vector.view().into_dyn());
    let matrices = [&cell.weight_hr, &cell.peepholes].into_iter().flatten().chain([&cell.weight_ih, &cell.weight_hh]);
    let all = vectors.chain(matrices.map(|matrix| matrix.view().into_dyn()));
    all.map(|tensor| tensor.iter().map(|value| value.to_bits()).collect()).collect()
}
