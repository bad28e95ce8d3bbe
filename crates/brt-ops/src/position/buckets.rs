//! Buckets of distances as in T5.

/// Buckets of distances as in T5: one bucket a token at first, then logarithmic up to a longest distance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buckets {
    /// Number of buckets.
    pub num_buckets: i64,
    /// Distance from which on all keys share the last bucket.
    pub max_distance: i64,
}

impl Buckets {
    /// The paper's buckets.
    pub const PAPER: Self = Self { num_buckets: 32, max_distance: 128 };

    /// Returns the bucket of a key that lies `distance` tokens behind its query; keys ahead count as distance 0.
    ///
    /// ```
    /// use brt_ops::position::Buckets;
    /// let distances = [-3, 0, 15, 16, 18, 19, 112, 113, 9999];
    /// assert_eq!(distances.map(|d| Buckets::PAPER.causal(d)), [0, 0, 15, 16, 16, 17, 30, 31, 31]);
    /// ```
    pub fn causal(self, distance: i64) -> i64 {
        let exact = self.num_buckets / 2;
        let distance = distance.max(0);
        if distance < exact {
            return distance;
        }
        let (distance, exact_f) = (distance as f64, exact as f64);
        let ratio =
            (distance / exact_f + f64::from(f32::EPSILON)).ln() / (self.max_distance as f64 / exact_f).ln();
        (exact + (ratio * (self.num_buckets - exact) as f64) as i64).min(self.num_buckets - 1)
    }

    /// Returns the bucket where keys ahead (`distance < 0`) take the upper half of the buckets.
    pub fn bidirectional(self, distance: i64) -> i64 {
        let half = Self { num_buckets: self.num_buckets / 2, ..self };
        half.causal(distance.abs()) + if distance < 0 { half.num_buckets } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first distance of each bucket that holds several, as the specification lists them.
    #[test]
    fn buckets_of_the_paper() {
        let starts = [16, 19, 21, 24, 27, 31, 35, 40, 46, 52, 59, 67, 77, 87, 99, 113];
        for distance in 0..=140 {
            let expected = match distance {
                0..16 => distance,
                _ => 15 + starts.iter().filter(|start| **start <= distance).count() as i64,
            };
            assert_eq!(Buckets::PAPER.causal(distance), expected, "distance {distance}");
        }
    }
}
