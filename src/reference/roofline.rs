//! Rounds of a multiplication and an addition. Twin of `shaders/roofline.wgsl`.

/// `v[num_rounds]` of `v[0] = x`, `v[r + 1] = v[r] * 0.5 + 1`
pub(crate) fn roofline(x: f64, num_rounds: u32) -> f64 {
    (0..num_rounds).fold(x, |v, _| v * 0.5 + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_approach_two() {
        assert_eq!([0, 1, 2, 3].map(|rounds| roofline(10.0, rounds)), [10.0, 6.0, 4.0, 3.0]);
        assert!((roofline(-100.0, 60) - 2.0).abs() < 1e-12);
    }
}
