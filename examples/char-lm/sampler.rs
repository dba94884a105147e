//! Drawing characters.

use ndarray::ArrayView1;

/// Draws codes from logits. What it draws depends on the logits, the temperature, the seed and the prompt: not on who else is in the
/// batch, nor on the place of the prompt in it.
#[derive(Clone, Debug)]
pub(crate) struct Sampler {
    temperature: f64,
    /// of `SplitMix64` (Steele, Lea and Flood 2014)
    random: u64,
}

impl Sampler {
    /// A temperature of 0 takes the likeliest character, 1 draws as the model has learned.
    pub(crate) fn new(temperature: f64, seed: u64, prompt: &str) -> Self {
        // FNV-1a: the standard library's hash may be another one tomorrow
        let mix = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        Self { temperature, random: seed.to_le_bytes().into_iter().chain(prompt.bytes()).fold(0xcbf2_9ce4_8422_2325, mix) }
    }

    /// A code with the probabilities `softmax(logits / temperature)`, logits `[V]`.
    pub(crate) fn draw(&mut self, logits: ArrayView1<'_, f32>) -> usize {
        let best = (0..logits.len()).fold(0, |best, code| if logits[code] > logits[best] { code } else { best });
        if self.temperature == 0.0 {
            return best;
        }
        let temperature = self.temperature;
        let weight = |logit: f32| ((f64::from(logit) - f64::from(logits[best])) / temperature).exp();
        let mut left = self.uniform() * logits.iter().map(|&logit| weight(logit)).sum::<f64>();
        for (code, &logit) in logits.iter().enumerate() {
            left -= weight(logit);
            if left < 0.0 {
                return code;
            }
        }
        best
    }

    /// A number from 0, included, to 1, excluded.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    fn uniform(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        (mixed >> 11) as f64 / (1_u64 << 53) as f64
    }
}
