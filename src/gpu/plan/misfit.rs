//! Whether a stack can be built to a choice that somebody names. The kernels rely on it: a form whose threads do not share out their work evenly would
//! have two of them write the same places.

use std::fmt::{Debug, Display};

use crate::gpu::form::{Choice, ProductForm, Schedule};
use crate::gpu::pack::PackedLayout;
use crate::gpu::plan::DeviceProfile;
use crate::gpu::plan::candidates::{Refusal, is_known, largest_input, refusal, resident_forms, step_inputs};
use crate::gpu::plan::cost::loop_iterations;
use crate::gpu::specialise::sums_pairs;
use crate::network::{LstmConfig, Precision};

/// Why a stack on a device cannot be built to `choice`, where it cannot. A choice may come from anybody, with any numbers in it.
pub fn misfit(choice: Choice, config: &LstmConfig, layout: &PackedLayout, profile: &DeviceProfile) -> Option<Refusal> {
    let steps = choice.schedule.product().map(|form| (form, step_inputs(config)));
    refusal(choice.schedule.name(), config, layout, profile)
        .or_else(|| match choice.schedule {
            Schedule::Resident(form) if !resident_forms(config, layout, usize::MAX, profile).contains(&form) => unknown(form),
            _ => None,
        })
        .or_else(|| {
            steps.into_iter().chain([(choice.input, largest_input(config))]).find_map(|(form, num_k)| {
                if !is_known(form, config, profile) {
                    return unknown(form);
                }
                product_misfit(form, config, layout.precision, profile).or_else(|| too_long(form, num_k, profile))
            })
        })
}

fn refuse(form: impl Display, rule: &str, found: &str) -> Option<Refusal> {
    Some(Refusal(format!("{form}: needs {rule}, found {found}")))
}

/// A form that no candidate has. Its sizes may be too large for the sums that a text for people has.
fn unknown(form: impl Debug) -> Option<Refusal> {
    refuse("choice", "forms that candidates have", &format!("{form:?}"))
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
    use crate::gpu::form::{MatrixForm, ResidentForm, RowForm, TileForm};
    use crate::gpu::pack::{PackedLayer, Region};
    use crate::gpu::plan::{TILES, ranked};

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
        for batch in [1, 7, 100, usize::MAX] {
            let ranked = ranked(&config, &layout, batch, None, &profile);
            assert!(ranked.len() > 12, "{batch} rows: {} candidates", ranked.len());
            for (choice, cost) in ranked {
                assert_eq!(misfit(choice, &config, &layout, &profile), None, "{choice:?}");
                assert!(cost.seconds().is_finite(), "{choice:?} for {batch} rows: {cost:?}");
            }
        }
    }

    #[test]
    fn forms_whose_threads_would_meet_do_not() {
        let (config, layout, profile) = stack();
        let matrix = MatrixForm { size: 16, row_tiles: 1, column_tiles: 1, row_chunks: u32::MAX, column_chunks: 4, subgroup_threads: 32 };
        let good = ProductForm::Rows(ROWS);
        let products = [
            ProductForm::Rows(RowForm { k_lanes: 3, ..ROWS }),
            ProductForm::Rows(RowForm { k_lanes: 0, ..ROWS }),
            ProductForm::Rows(RowForm { workgroup_size: u32::MAX, ..ROWS }),
            ProductForm::Rows(RowForm { rows: 0, ..ROWS }),
            ProductForm::Tile(TileForm { row_threads: u32::MAX, ..TILES[0] }),
            ProductForm::Tile(TileForm { row_quads: 0, ..TILES[0] }),
            ProductForm::Matrix(matrix),
        ];
        let residents = [
            ResidentForm { k_lanes: 3, ..RESIDENT },
            ResidentForm { k_lanes: 0, ..RESIDENT },
            ResidentForm { units: 0, ..RESIDENT },
            ResidentForm { rows: 3, ..RESIDENT },
            ResidentForm { workgroup_size: 32, ..RESIDENT },
        ];
        let schedules = products.map(Schedule::PerStep).into_iter().chain(residents.map(Schedule::Resident));
        let choices = schedules.map(|schedule| Choice { schedule, input: good });
        for choice in choices.chain(products.map(|input| Choice { schedule: Schedule::Resident(RESIDENT), input })) {
            let refusal = misfit(choice, &config, &layout, &profile).unwrap_or_else(|| panic!("{choice:?} is none of them")).to_string();
            assert!(refusal.starts_with("choice: needs forms that candidates have, found "), "{refusal}");
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
