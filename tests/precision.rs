//! What storing weights in fewer bits does to results: measured with exact arithmetic, and held to the bound that `verify` states.
//!
//! `cargo test --test precision -- --nocapture` prints the table of benches/README.md.

mod common;

use cellgate::compare::compare;
use cellgate::measure::Summary;
use cellgate::{DeviceChoice, Direction, Engine, LstmConfig, Network, Options, Outputs, Precision};
use common::call::{Call, Rng, widen};
use common::{by_model, conclude, golden_cases, inputs};
use libtest_mimic::{Failed, Trial};

fn main() {
    let mut trials = Vec::new();
    for precision in [Precision::F16, Precision::Int8] {
        trials.push(Trial::test(format!("{precision}/golden"), move || golden(precision)));
        trials.push(Trial::test(format!("{precision}/random"), move || random(precision)));
    }
    conclude(trials);
}

/// Largest difference, and largest share of the bound, of what an exact computation makes of stored weights from what it makes of those given.
struct Difference {
    name: String,
    max_abs_err: f64,
    ratio: f64,
}

fn options(precision: Precision) -> Options {
    Options { precision, ..by_model() }
}

/// Storing the golden cases' weights.
fn golden(precision: Precision) -> Result<(), Failed> {
    let reference = Engine::new(DeviceChoice::Reference)?;
    let mut all = Vec::new();
    for case in golden_cases() {
        let network = Network::open(&case.model)?;
        let tensors = case.read_inputs()?;
        let run = |precision| -> Result<Outputs, Failed> { Ok(reference.session(&network, options(precision))?.run(&inputs(&tensors))?) };
        let (stored, given) = (run(precision)?, run(Precision::F32)?);
        let mut worst = Difference { name: case.name.clone(), max_abs_err: 0.0, ratio: 0.0 };
        for (name, _) in &case.outputs {
            let array = |outputs: &Outputs| outputs.get(name).and_then(|tensor| tensor.as_f32().cloned()).ok_or("an output is missing");
            worst = worst.with(&array(&stored)?, &array(&given)?, precision);
        }
        // what has no bounds amplifies a rounding of weights as much as any other
        let unbounded = network.lstms().any(|(_, lstm)| lstm.is_some_and(|lstm| lstm.config().amplifies_rounding()));
        if unbounded {
            eprintln!("not judged, as gates or outputs have no bounds: {}: {:.1e}, {:.2} of the bound", worst.name, worst.max_abs_err, worst.ratio);
        } else {
            all.push(worst);
        }
    }
    conclude_differences(&format!("golden cases, {precision}"), &all)
}

/// Storing the weights of random stacks, as PyTorch starts with: from `-1 / sqrt(H)` to `1 / sqrt(H)`, and three times that.
fn random(precision: Precision) -> Result<(), Failed> {
    let reference = Engine::new(DeviceChoice::Reference)?;
    let (mut rng, mut failed) = (Rng::new(11), Vec::new());
    let plain = |hidden| LstmConfig::new(hidden, hidden);
    let both = |hidden| LstmConfig { direction: Direction::Bidirectional, ..plain(hidden) };
    type Config<'a> = &'a dyn Fn(usize) -> LstmConfig;
    let kinds: [(&str, Config<'_>, f32); 5] = [
        ("one layer", &plain, 1.0),
        ("one layer, weights times 3", &plain, 3.0),
        ("three layers", &|hidden| LstmConfig { num_layers: 3, ..plain(hidden) }, 1.0),
        ("bidirectional, two layers", &|hidden| LstmConfig { num_layers: 2, ..both(hidden) }, 1.0),
        ("projection to a half", &|hidden| LstmConfig { proj_size: Some(hidden / 2), ..plain(hidden) }, 1.0),
    ];
    for (name, config, gain) in kinds {
        let mut all = Vec::new();
        for hidden in [16, 64, 128, 256] {
            let mut call = Call::random(config(hidden), 50, 4, &mut rng);
            if gain > 1.0 {
                call.cells = common::call::random_cells(&call.config, gain, &mut rng);
            }
            let network = call.network()?;
            let run = |precision| call.run_in(&mut reference.session(&network, options(precision))?);
            let (stored, given) = (run(precision)?, run(Precision::F32)?);
            let worst = Difference { name: format!("{name}, H = {hidden}"), max_abs_err: 0.0, ratio: 0.0 };
            all.push(worst.with(&stored.y.into_dyn(), &given.y.into_dyn(), precision));
        }
        if let Err(error) = conclude_differences(&format!("{name}, {precision}"), &all) {
            failed.push(error.message().unwrap_or_default().to_owned());
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(failed.join("; ").into()) }
}

impl Difference {
    fn with(self, stored: &ndarray::ArrayD<f32>, given: &ndarray::ArrayD<f32>, precision: Precision) -> Self {
        let comparison = compare(stored.view(), widen(given).view(), precision.bound());
        let ratio = comparison.worst.as_ref().map_or(0.0, |worst| worst.ratio);
        Self { name: self.name, max_abs_err: self.max_abs_err.max(comparison.max_abs_err), ratio: self.ratio.max(ratio) }
    }
}

fn conclude_differences(what: &str, all: &[Difference]) -> Result<(), Failed> {
    let errors: Vec<f64> = all.iter().map(|difference| difference.max_abs_err).collect();
    let summary = Summary::of(&errors).ok_or("nothing was compared")?;
    let worst = all.iter().max_by(|a, b| a.ratio.total_cmp(&b.ratio)).ok_or("nothing was compared")?;
    eprintln!(
        "{what}: max |error| typically {:.1e}, at most {:.1e}; worst {:.2} of the bound, {} with {:.1e}",
        summary.median, summary.max, worst.ratio, worst.name, worst.max_abs_err
    );
    if worst.ratio <= 1.0 { Ok(()) } else { Err(format!("{what}: {:.2} of the bound in {}", worst.ratio, worst.name).into()) }
}
