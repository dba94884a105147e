//! WAV files, and their samples at the rate that the network was trained on; the twin of `features.py`.

use std::f64::consts::PI;
use std::ops::RangeInclusive;
use std::path::Path;

use hound::{SampleFormat, WavReader, WavSpec};

use crate::Result;

/// Of the samples that features are made of, in Hz.
pub(crate) const SAMPLE_RATE: usize = 8000;

/// Rates that can be made 8 kHz: slower ones lack a part of the telephone's band.
const RATES: RangeInclusive<u32> = 8_000..=192_000;

/// A bidirectional network sees an utterance as a whole, and was trained on seconds.
const MOST_SECONDS: u32 = 60;

/// Of the resampler's kernel, on each side.
const ZERO_CROSSINGS: usize = 16;

/// The samples `[L]` of a file, at 8 kHz in [-1, 1).
///
/// # Errors
/// Where the file is no WAV file, or not of one channel of integers at a rate of `RATES`, or too long.
pub(crate) fn read(path: &Path) -> Result<Vec<f64>> {
    let within = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let mut reader = WavReader::open(path).map_err(|error| within(&error))?;
    let WavSpec { channels, sample_rate, bits_per_sample, sample_format } = reader.spec();
    if channels != 1 {
        return Err(within(&format!("expected 1 channel, found {channels}")).into());
    }
    if sample_format != SampleFormat::Int {
        return Err(within(&format!("expected samples that are integers (PCM), found floats of {bits_per_sample} bits")).into());
    }
    if !RATES.contains(&sample_rate) {
        return Err(within(&format!("expected a sampling rate of {} to {} Hz, found {sample_rate}", RATES.start(), RATES.end())).into());
    }
    if reader.duration() > MOST_SECONDS * sample_rate {
        return Err(
            within(&format!("expected at most {MOST_SECONDS} s, found {}; cut it where nobody speaks", reader.duration() / sample_rate)).into()
        );
    }
    let full = f64::from(bits_per_sample - 1).exp2();
    let samples: Vec<f64> =
        reader.samples::<i32>().map(|sample| Ok(f64::from(sample?) / full)).collect::<hound::Result<_>>().map_err(|e| within(&e))?;
    Ok(resample(&samples, sample_rate as usize))
}

/// Samples `[L]` at `rate` Hz, 8000 or more, as `[L * 8000 / rate]` at 8 kHz: a sinc that passes up to 4 kHz, under a Hann window.
fn resample(samples: &[f64], rate: usize) -> Vec<f64> {
    if rate == SAMPLE_RATE {
        return samples.to_vec();
    }
    let step = rate as f64 / SAMPLE_RATE as f64;
    let reach = (ZERO_CROSSINGS as f64 * step).ceil() as usize;
    // the weights repeat where `rate` and 8000 come to a multiple of both
    let common = gcd(rate, SAMPLE_RATE);
    let phases: Vec<Vec<f64>> = (0..SAMPLE_RATE / common)
        .map(|phase| {
            let between = (phase * rate % SAMPLE_RATE) as f64 / SAMPLE_RATE as f64;
            (0..=2 * reach).map(|k| kernel((k as f64 - reach as f64 - between) / step) / step).collect()
        })
        .collect();
    (0..samples.len() * SAMPLE_RATE / rate)
        .map(|n| {
            let centre = n * rate / SAMPLE_RATE;
            let weights = phases[n % phases.len()].iter().enumerate();
            weights.filter_map(|(k, weight)| Some(weight * samples.get((centre + k).checked_sub(reach)?)?)).sum()
        })
        .collect()
}

/// What a sample is worth at a distance in samples of 8 kHz.
fn kernel(distance: f64) -> f64 {
    let reach = ZERO_CROSSINGS as f64;
    if distance.abs() >= reach {
        return 0.0;
    }
    let sinc = if distance == 0.0 { 1.0 } else { (PI * distance).sin() / (PI * distance) };
    sinc * (0.5 + 0.5 * (PI * distance / reach).cos())
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `[count]` of a cosine of 440 Hz
    fn tone(rate: usize, count: usize) -> Vec<f64> {
        (0..count).map(|n| (2.0 * PI * 440.0 * n as f64 / rate as f64).cos()).collect()
    }

    #[test]
    fn a_tone_is_the_same_tone_at_8_khz() {
        for rate in [11_025, 16_000, 22_050, 44_100, 48_000, 44_101] {
            let (found, expected) = (resample(&tone(rate, rate / 2), rate), tone(SAMPLE_RATE, SAMPLE_RATE / 2));
            // away from the ends, where the kernel hangs over
            for (found, expected) in found.iter().zip(&expected).take(found.len() - 20).skip(20) {
                assert!((found - expected).abs() < 2e-3, "{rate} Hz: expected {expected}, found {found}");
            }
        }
    }

    #[test]
    fn what_8_khz_cannot_hold_is_left_out() {
        let high: Vec<f64> = (0..16_000).map(|n| (2.0 * PI * 5_000.0 * f64::from(n) / 16_000.0).cos()).collect();
        let left = resample(&high, 16_000);
        assert!(left[20..left.len() - 20].iter().all(|sample| sample.abs() < 5e-3));
    }
}
