//! Whether a record can be believed: whoever writes to the user's cache, or damages it, must not decide what a device is asked for.

use std::ops::RangeInclusive;

use crate::engine::records::Record;
use crate::gpu::form::Choice;

/// Seconds that a call takes which somebody waited for, by the finest clock.
const CALL_SECONDS: RangeInclusive<f64> = 1e-9..=1e6;

impl Record {
    /// Why the record says what cannot be, of a stack that `candidates` are all the choices of for so many rows; `is_one_segment` says of a number of
    /// steps whether one plan has them.
    pub(super) fn fault(&self, candidates: &[Choice], is_one_segment: impl Fn(usize) -> bool) -> Option<String> {
        if self.measured.len() > candidates.len() {
            return Some(format!("expected at most {} measurements, one of each candidate, found {}", candidates.len(), self.measured.len()));
        }
        let mut choices = self.measured.iter().map(|measurement| measurement.choice).chain([self.choice]);
        if let Some(choice) = choices.find(|choice| !candidates.contains(choice)) {
            // its sizes may be too large for the sums that a text for people has
            return Some(format!("expected one of the candidates, found {choice:?}"));
        }
        let sides = self.sides.iter().flat_map(|sides| [sides.gpu_seconds, sides.cpu_seconds]);
        let mut seconds = self.measured.iter().map(|measurement| measurement.seconds).chain(sides);
        if let Some(seconds) = seconds.find(|seconds| !CALL_SECONDS.contains(seconds)) {
            return Some(format!("expected times of calls above 0, found {seconds:e} s"));
        }
        if !is_one_segment(self.seq_len) {
            return Some(format!("expected times of calls of one segment, found those of {} steps", self.seq_len));
        }
        (!is_date(&self.date)).then(|| "expected a date as year-month-day, found another text".to_owned())
    }
}

/// Whether `text` looks like what [`measure::today`](crate::measure::today) says: it is shown to the user.
fn is_date(text: &str) -> bool {
    text.len() == 10 && text.bytes().enumerate().all(|(place, byte)| if matches!(place, 4 | 7) { byte == b'-' } else { byte.is_ascii_digit() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::records::Key;
    use crate::engine::sides::SidesMeasurement;
    use crate::engine::tune::Measurement;
    use crate::gpu::form::{MatrixForm, ProductForm, ResidentForm, RowForm, Schedule, TileForm};
    use crate::network::Precision;

    const ROWS: ProductForm = ProductForm::Rows(RowForm { workgroup_size: 64, rows: 1, k_lanes: 4, subgroups: false });
    const CANDIDATES: [Choice; 2] =
        [Choice { schedule: Schedule::PerStep(ROWS), input: ROWS }, Choice { schedule: Schedule::Wavefront(ROWS), input: ROWS }];

    fn record() -> Record {
        let key = Key { lstm: "an LSTM".to_owned(), precision: Precision::F32, rows: 1, schedule: None, checked_shaders: false, least_limits: false };
        let measured = CANDIDATES.map(|choice| Measurement { choice, seconds: 1e-3, n: 7 }).to_vec();
        let sides = Some(SidesMeasurement { gpu_seconds: 1e-3, cpu_seconds: 2e-3, cpu: "a CPU".to_owned() });
        Record { key, date: "2026-02-28".to_owned(), choice: CANDIDATES[1], seq_len: 100, measured, sides }
    }

    /// Why the record is not believed that `change` makes.
    fn fault(change: impl FnOnce(&mut Record)) -> Option<String> {
        let mut record = record();
        change(&mut record);
        record.fault(&CANDIDATES, |seq_len| (1..=100).contains(&seq_len))
    }

    #[track_caller]
    fn is_refused(words: &str, change: impl FnOnce(&mut Record)) {
        let fault = fault(change).expect(words);
        assert!(fault.starts_with(words) && fault.len() < 500, "{fault}");
    }

    #[test]
    fn what_was_measured_is_believed() {
        assert_eq!(fault(|_| {}), None);
        assert_eq!(fault(|record| (record.sides, record.measured) = (None, Vec::new())), None);
    }

    #[test]
    fn a_choice_is_one_of_the_candidates_wherever_it_stands() {
        let (none, most) = (0, u32::MAX);
        let forms = [
            ProductForm::Rows(RowForm { workgroup_size: 7, rows: none, k_lanes: none, subgroups: true }),
            ProductForm::Tile(TileForm { row_threads: most, unit_threads: most, row_quads: most, units: most }),
            ProductForm::Matrix(MatrixForm {
                size: most,
                row_tiles: most,
                column_tiles: most,
                row_chunks: most,
                column_chunks: most,
                subgroup_threads: most,
            }),
        ];
        let resident = ResidentForm { workgroup_size: 1 << 31, rows: most, units: most, k_lanes: none, held: true };
        let schedules = forms.into_iter().flat_map(|form| [Schedule::PerStep(form), Schedule::Wavefront(form)]).chain([Schedule::Resident(resident)]);
        let of_schedules = schedules.map(|schedule| Choice { schedule, input: ROWS });
        for choice in of_schedules.chain(forms.map(|input| Choice { input, ..CANDIDATES[0] })) {
            is_refused("expected one of the candidates, found Choice", |record| record.choice = choice);
            is_refused("expected one of the candidates, found Choice", |record| record.measured[1].choice = choice);
        }
    }

    #[test]
    fn a_candidate_was_measured_once() {
        let words = "expected at most 2 measurements, one of each candidate, found 3";
        is_refused(words, |record| record.measured.push(record.measured[0]));
    }

    #[test]
    fn times_are_those_of_calls() {
        for seconds in [0.0, -1.0, f64::INFINITY, f64::NAN, 1e300, 5e-324] {
            let of = |gpu_seconds, cpu_seconds| Some(SidesMeasurement { gpu_seconds, cpu_seconds, cpu: "a CPU".to_owned() });
            is_refused("expected times of calls above 0, found ", |record| record.sides = of(seconds, 1.0));
            is_refused("expected times of calls above 0, found ", |record| record.sides = of(1.0, seconds));
            is_refused("expected times of calls above 0, found ", |record| record.measured[1].seconds = seconds);
        }
        for seq_len in [0, 101, usize::MAX] {
            is_refused("expected times of calls of one segment, found those of ", |record| record.seq_len = seq_len);
        }
    }

    #[test]
    fn a_date_is_one() {
        for date in ["", "today", "2026-02-2", "2026-02-281", "2026/02/28", "\u{1b}[31m26-2-", "\u{661}-02-28-0"] {
            is_refused("expected a date as year-month-day", |record| record.date = date.to_owned());
        }
    }
}
