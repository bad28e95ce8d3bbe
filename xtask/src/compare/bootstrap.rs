//! The paired bootstrap over documents.

/// Number of resamples.
pub(super) const NUM_RESAMPLES: usize = 10_000;
/// Seed of the resampling: the same records give the same interval.
const SEED: u64 = 0x6272_7400;

/// Returns the 95 % percentile interval of the mean of `values` under resampling, or nothing for fewer than two.
///
/// For a paired comparison the values are the differences per document.
pub(super) fn interval_of_mean(values: &[f64]) -> Option<[f64; 2]> {
    if values.len() < 2 {
        return None;
    }
    let mut random = SplitMix64(SEED);
    let mut resampled_mean = || {
        let sum: f64 = (0..values.len()).map(|_| values[random.below(values.len())]).sum();
        sum / values.len() as f64
    };
    let mut means: Vec<f64> = (0..NUM_RESAMPLES).map(|_| resampled_mean()).collect();
    means.sort_by(f64::total_cmp);
    Some([percentile(&means, 0.025), percentile(&means, 0.975)])
}

/// Returns a percentile of sorted values, interpolated between neighbours.
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let position = share * (sorted.len() - 1) as f64;
    let below = sorted[position.floor() as usize];
    let above = sorted[position.ceil() as usize];
    below + (above - below) * position.fract()
}

/// The SplitMix64 generator: one line of state, enough for resampling.
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Returns a number below `bound`; the bias of the multiplication is below 2^-32 for any number of documents.
    fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_gives_its_published_sequence() {
        // First outputs for seed 1234567 of the reference implementation.
        let mut random = SplitMix64(1_234_567);
        assert_eq!(random.next(), 6_457_827_717_110_365_317);
        assert_eq!(random.next(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn percentiles_interpolate() {
        assert_eq!(percentile(&[0., 1., 2., 3.], 0.5), 1.5);
        assert_eq!(percentile(&[0., 10.], 0.025), 0.25);
    }

    #[test]
    fn intervals_of_known_data() {
        assert_eq!(interval_of_mean(&[]), None);
        assert_eq!(interval_of_mean(&[1.]), None);
        assert_eq!(interval_of_mean(&[0.5, 0.5, 0.5]), Some([0.5, 0.5]));
        // Two values: a resample's mean is 0, 1/2 or 1 with probabilities 1/4, 1/2, 1/4.
        assert_eq!(interval_of_mean(&[0., 1.]), Some([0., 1.]));
        // 400 values, half 0 and half 1: the mean's standard deviation is 0.5/20 = 0.025, the interval ±0.049.
        let values: Vec<f64> = (0..400).map(|i| f64::from(i % 2)).collect();
        let [low, high] = interval_of_mean(&values).unwrap();
        assert!((low - 0.451).abs() < 0.003 && (high - 0.549).abs() < 0.003, "[{low}, {high}]");
    }
}
