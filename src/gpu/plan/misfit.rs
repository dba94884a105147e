//! Whether a stack can be built to a choice that somebody names. The kernels rely on it: a form whose threads do not share out their work evenly would
//! have two of them write the same places.

use crate::gpu::form::{Choice, ProductForm, ResidentForm, RowForm, Schedule};
use crate::gpu::pack::PackedLayout;
use crate::gpu::plan::DeviceProfile;
use crate::gpu::plan::candidates::{Refusal, TILES, largest_input, matrix_forms, refusal, resident_forms, step_inputs};
use crate::gpu::plan::cost::loop_iterations;
use crate::gpu::specialise::sums_pairs;
use crate::network::{LstmConfig, Precision};

/// Rows of a workgroup of `row_product`, whose sums a thread has in registers.
const MOST_ROWS: u32 = 16;

/// Threads that share a sum there.
const MOST_LANES: u32 = 16;

/// Why a stack on a device cannot be built to `choice`, where it cannot.
pub fn misfit(choice: Choice, config: &LstmConfig, layout: &PackedLayout, profile: &DeviceProfile) -> Option<Refusal> {
    let steps = choice.schedule.product().map(|form| (form, step_inputs(config)));
    let resident = match choice.schedule {
        Schedule::Resident(form) => resident_misfit(form, config, layout, profile),
        _ => None,
    };
    refusal(choice.schedule.name(), config, layout, profile).or(resident).or_else(|| {
        steps.into_iter().chain([(choice.input, largest_input(config))]).find_map(|(form, num_k)| {
            malformed(form, profile).or_else(|| product_misfit(form, config, layout.precision, profile)).or_else(|| too_long(form, num_k, profile))
        })
    })
}

fn refuse(form: impl std::fmt::Display, rule: &str, found: &str) -> Option<Refusal> {
    Some(Refusal(format!("{form}: needs {rule}, found {found}")))
}

/// Why threads of a workgroup cannot share out a product so, where they cannot. What the sizes would make is not computed before they are known to be small.
fn malformed(form: ProductForm, profile: &DeviceProfile) -> Option<Refusal> {
    let (threads, bytes) = (profile.max_workgroup_threads, profile.max_workgroup_bytes);
    match form {
        ProductForm::Rows(RowForm { workgroup_size, rows, k_lanes, .. }) => {
            let is_power = |value: u32, most: u32| value.is_power_of_two() && value <= most;
            // the rows of a stage, and the sums of all threads where several share one
            let shared = |rows: u32| rows * (64 * k_lanes + if k_lanes > 1 { 16 * workgroup_size } else { 0 });
            match () {
                () if !is_power(workgroup_size, threads) => {
                    refuse(format!("{form:?}"), &format!("a power of two of threads, {threads} at most"), &workgroup_size.to_string())
                }
                () if !is_power(k_lanes, MOST_LANES.min(workgroup_size)) => {
                    let most = MOST_LANES.min(workgroup_size);
                    refuse(format!("{form:?}"), &format!("a power of two of threads that share a sum, {most} at most"), &k_lanes.to_string())
                }
                () if !(1..=MOST_ROWS).contains(&rows) => refuse(format!("{form:?}"), &format!("1 to {MOST_ROWS} rows"), &rows.to_string()),
                () if shared(rows) > bytes => {
                    refuse(format!("{form:?}"), &format!("at most {bytes} bytes of workgroup memory"), &shared(rows).to_string())
                }
                () => None,
            }
        }
        ProductForm::Tile(tile) if !TILES.contains(&tile) => refuse(format!("{form:?}"), "one of `TILES`", "another one"),
        ProductForm::Tile(tile) if tile.workgroup_size() > threads => {
            refuse(format!("{form:?}"), &format!("at most {threads} threads"), &tile.workgroup_size().to_string())
        }
        ProductForm::Matrix(matrix) if profile.matrices.is_some() && !matrix_forms(usize::MAX, profile).contains(&matrix) => {
            refuse(format!("{form:?}"), "a form that the cost model would rank on this adapter", "another one")
        }
        ProductForm::Tile(_) | ProductForm::Matrix(_) => None,
    }
}

fn resident_misfit(form: ResidentForm, config: &LstmConfig, layout: &PackedLayout, profile: &DeviceProfile) -> Option<Refusal> {
    let fits = resident_forms(config, layout, usize::MAX, profile).contains(&form);
    if fits { None } else { refuse(format!("{form:?}"), "a form that the cost model would rank for this stack and adapter", "another one") }
}

/// Why the driver would end a thread's loops early, where it would.
fn too_long(form: ProductForm, num_k: usize, profile: &DeviceProfile) -> Option<Refusal> {
    let (need, allowed) = (loop_iterations::product(form, num_k), profile.max_loop_iterations);
    if need <= allowed { None } else { refuse(form, &format!("at most {allowed} iterations of a thread's loops"), &need.to_string()) }
}

/// Why a stack, or the device, does without a form of a product, where it does.
pub(super) fn product_misfit(form: ProductForm, config: &LstmConfig, precision: Precision, profile: &DeviceProfile) -> Option<Refusal> {
    let refuse = |rule: &str, found: &str| refuse(form, rule, found);
    match form {
        ProductForm::Rows(rows) if rows.k_lanes > 1 && sums_pairs(config) => refuse("bounded gates and outputs", "activations that amplify rounding"),
        ProductForm::Matrix(_) if precision != Precision::F16 => refuse("precision f16", precision.name()),
        ProductForm::Matrix(_) if config.amplifies_rounding() => refuse("bounded gates and outputs", "activations that amplify rounding"),
        ProductForm::Matrix(_) if config.layer_norm.is_some() => refuse("no layer normalisation", "a layer-normalised stack"),
        ProductForm::Matrix(form) if profile.matrices != Some(form.size) => {
            refuse(&format!("an adapter with cooperative matrices of {0} x {0}", form.size), "none")
        }
        ProductForm::Rows(rows) if rows.subgroups && profile.subgroups.is_none() => refuse("an adapter with subgroups", "none"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Hardware;
    use crate::gpu::form::TileForm;
    use crate::gpu::pack::{PackedLayer, Region};
    use crate::gpu::plan::candidates;

    const ROWS: RowForm = RowForm { workgroup_size: 64, rows: 1, k_lanes: 2, subgroups: false };
    const RESIDENT: ResidentForm = ResidentForm { workgroup_size: 64, rows: 1, units: 1, k_lanes: 1, held: false };

    fn stack() -> (LstmConfig, PackedLayout, DeviceProfile) {
        let config = LstmConfig { num_layers: 2, ..LstmConfig::new(64, 64) };
        let layer =
            PackedLayer { weight_ih: Region::default(), weight_hh: Region::default(), weight_hr: Region::default(), joined: true, vectors: 0 };
        (config, PackedLayout { precision: Precision::F32, layers: vec![layer; 2] }, DeviceProfile::least(Hardware::Discrete))
    }

    #[test]
    fn candidates_fit() {
        let (config, layout, profile) = stack();
        let choices: Vec<Choice> = [1, 7, 100].into_iter().flat_map(|batch| candidates(&config, &layout, batch, None, &profile)).collect();
        assert!(choices.len() > 50);
        for choice in choices {
            assert_eq!(misfit(choice, &config, &layout, &profile), None, "{choice:?}");
        }
    }

    #[test]
    fn forms_whose_threads_would_meet_do_not() {
        let (config, layout, profile) = stack();
        let product = |form: RowForm| ProductForm::Rows(form);
        let tile = ProductForm::Tile(TileForm { row_threads: 3, ..TILES[0] });
        let good = Choice { schedule: Schedule::PerStep(product(ROWS)), input: product(ROWS) };
        assert_eq!(misfit(good, &config, &layout, &profile), None);
        for (form, words) in [
            (product(RowForm { k_lanes: 3, ..ROWS }), "threads that share a sum, 16 at most, found 3"),
            (product(RowForm { k_lanes: 0, ..ROWS }), "found 0"),
            (product(RowForm { k_lanes: 32, ..ROWS }), "found 32"),
            (product(RowForm { workgroup_size: 48, ..ROWS }), "a power of two of threads, 256 at most, found 48"),
            (product(RowForm { workgroup_size: 1 << 31, ..ROWS }), "found 2147483648"),
            (product(RowForm { workgroup_size: 2, k_lanes: 4, ..ROWS }), "2 at most, found 4"),
            (product(RowForm { rows: 0, ..ROWS }), "1 to 16 rows, found 0"),
            (product(RowForm { rows: u32::MAX, ..ROWS }), "found 4294967295"),
            (product(RowForm { workgroup_size: 256, rows: 16, ..ROWS }), "bytes of workgroup memory"),
            (tile, "`TILES`"),
            (ProductForm::Tile(TileForm { row_threads: u32::MAX, ..TILES[0] }), "`TILES`"),
        ] {
            for choice in [Choice { input: form, ..good }, Choice { schedule: Schedule::PerStep(form), ..good }] {
                let refusal = misfit(choice, &config, &layout, &profile).expect("it is malformed").to_string();
                assert!(refusal.contains(words), "{refusal}");
            }
        }
        let resident = |form: ResidentForm| misfit(Choice { schedule: Schedule::Resident(form), ..good }, &config, &layout, &profile);
        assert_eq!(resident(RESIDENT), None);
        for form in [
            ResidentForm { k_lanes: 3, ..RESIDENT },
            ResidentForm { k_lanes: 0, ..RESIDENT },
            ResidentForm { units: 0, ..RESIDENT },
            ResidentForm { rows: 3, ..RESIDENT },
            ResidentForm { workgroup_size: 32, ..RESIDENT },
        ] {
            assert!(resident(form).is_some(), "{form:?}");
        }
    }

    #[test]
    fn loops_that_the_driver_would_end_do_not() {
        let (config, layout, profile) = stack();
        let choice = Choice { schedule: Schedule::PerStep(ProductForm::Rows(ROWS)), input: ProductForm::Rows(ROWS) };
        let short = DeviceProfile { max_loop_iterations: 20, ..profile };
        assert!(misfit(choice, &config, &layout, &short).is_some_and(|refusal| refusal.to_string().contains("at most 20 iterations")));
    }
}
