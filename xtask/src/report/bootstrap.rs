//! The bootstrap: over groups of documents, and over rounds of a timing.

use brt_report::median;

/// Number of resamples.
const NUM_RESAMPLES: usize = 10_000;
/// Seed of the resampling: the same records give the same interval.
const SEED: u64 = 0x6272_7400;

/// Fewest groups for an interval: of fewer, all differences have one sign by chance too often (2 · 2⁻⁶ = 3 %).
const MIN_GROUPS: usize = 6;

/// Returns the 95 % percentile interval of the mean of all values when whole groups are resampled, or nothing for too
/// few groups.
///
/// For a paired comparison the values are the differences per document. Documents of one group (an author, a family of
/// crates) are not independent, so they are drawn together.
pub(crate) fn interval_of_mean(groups: &[Vec<f64>]) -> Option<[f64; 2]> {
    if groups.len() < MIN_GROUPS {
        return None;
    }
    let sums: Vec<(f64, usize)> = groups.iter().map(|values| (values.iter().sum(), values.len())).collect();
    let mut random = SplitMix64(SEED);
    let mut resampled_mean = || {
        let drawn = (0..sums.len()).map(|_| sums[random.below(sums.len())]);
        let (sum, count) = drawn.fold((0., 0), |(sum, count), (s, n)| (sum + s, count + n));
        sum / count as f64
    };
    Some(middle((0..NUM_RESAMPLES).map(|_| resampled_mean()).collect()))
}

/// Returns the 95 % percentile interval of the median when values are resampled one by one, or nothing for too few
/// values.
pub(crate) fn interval_of_median(values: &[f64]) -> Option<[f64; 2]> {
    if values.len() < MIN_GROUPS {
        return None;
    }
    let mut random = SplitMix64(SEED);
    let mut resampled_median =
        || median((0..values.len()).map(|_| values[random.below(values.len())]).collect());
    Some(middle((0..NUM_RESAMPLES).map(|_| resampled_median()).collect()))
}

/// Returns the ends of the middle 95 % of values.
fn middle(mut values: Vec<f64>) -> [f64; 2] {
    values.sort_by(f64::total_cmp);
    [percentile(&values, 0.025), percentile(&values, 0.975)]
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
    fn the_median_does_not_follow_one_slow_round() {
        assert_eq!(interval_of_median(&[1.; 5]), None);
        let mut rounds = [1.; 12];
        rounds[3] = 9.;
        assert_eq!(interval_of_median(&rounds), Some([1., 1.]));
        let spread: Vec<f64> = (0..101).map(f64::from).collect();
        // The median's standard deviation is 1.25 · 29/10 = 3.6, the interval ±7.
        let [low, high] = interval_of_median(&spread).unwrap();
        assert!((38. ..48.).contains(&low) && (52. ..62.).contains(&high), "[{low}, {high}]");
    }

    #[test]
    fn intervals_of_known_data() {
        let alone = |values: &[f64]| values.iter().map(|value| vec![*value]).collect::<Vec<_>>();
        assert_eq!(interval_of_mean(&[]), None);
        assert_eq!(interval_of_mean(&alone(&[1.; 5])), None);
        assert_eq!(interval_of_mean(&alone(&[0.5; 6])), Some([0.5, 0.5]));
        // 400 values, half 0 and half 1: the mean's standard deviation is 0.5/20 = 0.025, the interval ±0.049.
        let values: Vec<f64> = (0..400).map(|i| f64::from(i % 2)).collect();
        let [low, high] = interval_of_mean(&alone(&values)).unwrap();
        assert!((low - 0.451).abs() < 0.003 && (high - 0.549).abs() < 0.003, "[{low}, {high}]");
        // The same values in 100 groups of four equal ones are as good as 100 values: twice as wide.
        let groups: Vec<Vec<f64>> = (0..100).map(|i| vec![f64::from(i % 2); 4]).collect();
        let [low, high] = interval_of_mean(&groups).unwrap();
        assert!((low - 0.402).abs() < 0.006 && (high - 0.598).abs() < 0.006, "[{low}, {high}]");
    }
}
