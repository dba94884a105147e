//! From samples to what the network reads: log-mel features, three frames a step; the twin of `features.py`, whose header has the formulas.

use std::f64::consts::PI;
use std::sync::Arc;

use ndarray::{Array2, Axis};
use rustfft::num_complex::Complex64;
use rustfft::{Fft, FftPlanner};

use crate::Result;
use crate::audio::SAMPLE_RATE;

/// Of a step of the network.
pub(crate) const STEP_SECONDS: f64 = (STACK * HOP) as f64 / SAMPLE_RATE as f64;

/// Samples of a frame, of the way to the next one, and of the transform: 25 ms, 10 ms, and the next power of two.
const FRAME: usize = 200;
const HOP: usize = 80;
const FFT: usize = 256;
const BANDS: usize = 40;
/// Frames of a step.
const STACK: usize = 3;
/// The lower end of the lowest band and the upper end of the highest one, in Hz.
const LOWEST: f64 = 60.0;
const HIGHEST: f64 = 4000.0;
/// Added to a band's power: a share of that of the loudest one, and for an utterance of zeros.
const FLOOR: f64 = 1e-6;
const SILENCE: f64 = 1e-10;
/// Added to a band's standard deviation, so that a band without any is 0.
const DEVIATION: f64 = 1e-3;

/// What does not depend on the utterance.
pub(crate) struct Features {
    fft: Arc<dyn Fft<f64>>,
    /// `[FRAME]`, Hann's
    window: Vec<f64>,
    /// `[FFT / 2 + 1, BANDS]`: the share of a frequency in a band
    filters: Array2<f64>,
}

impl Features {
    pub(crate) fn new() -> Self {
        let window = (0..FRAME).map(|n| 0.5 - 0.5 * (2.0 * PI * n as f64 / FRAME as f64).cos()).collect();
        Self { fft: FftPlanner::new().plan_fft_forward(FFT), window, filters: mel_filters() }
    }

    /// `x [T, STACK * BANDS]` of samples `[L]` at 8 kHz.
    ///
    /// # Errors
    /// Where there are too few samples for one step.
    pub(crate) fn of(&self, samples: &[f64]) -> Result<Array2<f32>> {
        let least = FRAME + (STACK - 1) * HOP;
        if samples.len() < least {
            return Err(format!("expected at least {least} samples at 8 kHz ({} ms), found {}", 1000 * least / SAMPLE_RATE, samples.len()).into());
        }
        let bands = self.power(samples).dot(&self.filters);
        let floor = FLOOR * bands.fold(0.0, |most: f64, &power| most.max(power)) + SILENCE;
        let mut log_mel = bands.mapv(|power| (power + floor).ln());
        for mut band in log_mel.axis_iter_mut(Axis(1)) {
            let (mean, deviation) = (band.sum() / band.len() as f64, band.std(0.0));
            band.mapv_inplace(|value| (value - mean) / (deviation + DEVIATION));
        }
        let steps = log_mel.nrows() / STACK;
        let stacked = log_mel.iter().take(steps * STACK * BANDS).map(|&value| value as f32).collect();
        Ok(Array2::from_shape_vec((steps, STACK * BANDS), stacked)?)
    }

    /// `[F, FFT / 2 + 1]`: the power of every frame at every frequency.
    fn power(&self, samples: &[f64]) -> Array2<f64> {
        let mut power = Array2::zeros(((samples.len() - FRAME) / HOP + 1, FFT / 2 + 1));
        let mut spectrum = vec![Complex64::default(); FFT];
        for (frame, mut row) in samples.windows(FRAME).step_by(HOP).zip(power.rows_mut()) {
            spectrum.fill(Complex64::default());
            for ((place, sample), weight) in spectrum.iter_mut().zip(frame).zip(&self.window) {
                place.re = sample * weight;
            }
            self.fft.process(&mut spectrum);
            row.iter_mut().zip(&spectrum).for_each(|(power, value)| *power = value.norm_sqr());
        }
        power
    }
}

/// Triangles of equal width on the mel scale, each from the centre of the one below to that of the one above.
fn mel_filters() -> Array2<f64> {
    let mel = |hertz: f64| 2595.0 * (1.0 + hertz / 700.0).log10();
    let width = (mel(HIGHEST) - mel(LOWEST)) / (BANDS + 1) as f64;
    Array2::from_shape_fn((FFT / 2 + 1, BANDS), |(k, band)| {
        let centre = mel(LOWEST) + width * (band + 1) as f64;
        let frequency = mel((k * SAMPLE_RATE) as f64 / FFT as f64);
        (1.0 - (frequency - centre).abs() / width).max(0.0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loudness_does_not_matter_and_silence_is_zero() -> Result<()> {
        let quiet: Vec<f64> = (0..4000).map(|n| 0.01 * f64::from(n * n % 101) / 101.0).collect();
        let loud: Vec<f64> = quiet.iter().map(|sample| 50.0 * sample).collect();
        let features = Features::new();
        let (quiet, loud) = (features.of(&quiet)?, features.of(&loud)?);
        assert_eq!(quiet.dim(), (16, 120));
        // all but `SILENCE` scales with the utterance
        assert!((&quiet - &loud).iter().all(|difference| difference.abs() < 1e-3));
        assert!(features.of(&[0.0; 400])?.iter().all(|&value| value == 0.0));
        Ok(())
    }

    #[test]
    fn a_tone_is_loudest_in_its_band() {
        let tone: Vec<f64> = (0..2000).map(|n| (2.0 * PI * 1000.0 * f64::from(n) / 8000.0).sin()).collect();
        let features = Features::new();
        let bands = features.power(&tone).dot(&features.filters);
        // 1000 Hz are mel 1000; the bands' centres are 50.07 mel apart, from 142.3 on
        let loudest = bands.row(3).iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map(|(band, _)| band);
        assert_eq!(loudest, Some(17));
    }

    #[test]
    fn one_step_needs_45_ms() {
        let features = Features::new();
        assert_eq!(features.of(&[0.1; 360]).expect("enough").dim(), (1, 120));
        let error = features.of(&[0.1; 359]).expect_err("too few").to_string();
        assert_eq!(error, "expected at least 360 samples at 8 kHz (45 ms), found 359");
    }
}
