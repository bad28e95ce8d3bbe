//! Loops over tokens in plain Rust: the referee of the fast paths. Nothing here calls what it checks.

/// Attention of one head where query `i` of block `t` sees exactly the `window_len` tokens before it, itself not among
/// them; tokens before the segment are those of the cache.
///
/// # Shapes
/// `queries`, `keys`, `values`: N rows of D; the cached ones: W rows of D. `bias[d]` is added for distance d.
pub fn windowed_attention(
    queries: &[Vec<f64>],
    [keys, values]: [&[Vec<f64>]; 2],
    [cached_keys, cached_values]: [&[Vec<f64>]; 2],
    bias: impl Fn(usize) -> f64,
    temperature: f64,
) -> Vec<Vec<f64>> {
    let window_len = cached_keys.len();
    let all_keys: Vec<_> = cached_keys.iter().chain(keys).collect();
    let all_values: Vec<_> = cached_values.iter().chain(values).collect();
    let attend = |(i, query): (usize, &Vec<f64>)| {
        // Token i of the segment is token i + W of all; the W before it are i .. i + W.
        let logits: Vec<f64> = (0..window_len)
            .map(|j| temperature * (dot(query, all_keys[i + j]) + bias(window_len - j)))
            .collect();
        weighted_mean(&logits, &all_values[i..i + window_len])
    };
    queries.iter().enumerate().map(attend).collect()
}

/// Attention of one head where every query sees every key.
pub fn full_attention(
    queries: &[Vec<f64>],
    keys: &[Vec<f64>],
    values: &[Vec<f64>],
    temperature: f64,
) -> Vec<Vec<f64>> {
    let values: Vec<_> = values.iter().collect();
    let attend = |query: &Vec<f64>| {
        let logits: Vec<f64> = keys.iter().map(|key| temperature * dot(query, key)).collect();
        weighted_mean(&logits, &values)
    };
    queries.iter().map(attend).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// Returns the mean of `values` with weights `exp(logits)`.
fn weighted_mean(logits: &[f64], values: &[&Vec<f64>]) -> Vec<f64> {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = logits.iter().map(|logit| (logit - largest).exp()).collect();
    let total: f64 = weights.iter().sum();
    let component =
        |d: usize| weights.iter().zip(values).map(|(weight, value)| weight * value[d]).sum::<f64>() / total;
    (0..values[0].len()).map(component).collect()
}
