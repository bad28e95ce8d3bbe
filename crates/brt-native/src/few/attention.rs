//! Attention of one query in each row, every row with keys of its own.

use tch::{Device, Kind, Tensor};

use crate::{
    attention::softmax,
    memory::{Slots, slice},
    simd::{Simd, kernel},
    threads,
};

/// Keys and values that the query of one row sees, in float32 on the CPU.
#[derive(Debug, Clone, Copy)]
pub struct RowKeys<'a> {
    /// `[1, H, len, D]`, the last axis contiguous.
    pub keys: &'a Tensor,
    /// As the keys.
    pub values: &'a Tensor,
    /// How many of them are seen, from the first on.
    pub num_seen: i64,
    /// Added to the logits, `[H, R]`, from this place of each row on.
    pub bias: Option<(&'a Tensor, i64)>,
}

/// Heads of one row in memory.
struct Row {
    keys: Heads,
    values: Heads,
    num_seen: usize,
    /// First value, values of a head.
    bias: Option<(*const f32, usize)>,
}

/// Where heads lie in a tensor `[1, H, len, D]`.
struct Heads {
    start: *const f32,
    head_stride: usize,
    stride: usize,
}

// SAFETY: the memory is only read.
unsafe impl Sync for Row {}

impl Heads {
    fn new(tensor: &Tensor, [num_heads, head_dim]: [i64; 2], num_seen: i64) -> Self {
        let (size, stride) = (tensor.size(), tensor.stride());
        assert!(
            tensor.kind() == Kind::Float
                && tensor.device() == Device::Cpu
                && matches!(size.as_slice(), [1, h, len, d] if [*h, *d] == [num_heads, head_dim] && num_seen <= *len)
                && stride[3] == 1,
            "row_attention: expected float32 [1, {num_heads}, {num_seen} or more, {head_dim}] on the CPU, got {tensor:?}"
        );
        Self { start: tensor.data_ptr().cast(), head_stride: stride[1] as usize, stride: stride[2] as usize }
    }
}

/// Returns `softmax(temperature · query · keysᵀ + bias) · values`, with one more, invisible logit of −1000 in the softmax: a
/// query that sees no key reads zeros.
///
/// # Shapes
/// `queries` (float32) and the result: `[B, H, 1, D]`; `temperature`: `[H]`; `rows`: B.
///
/// # Panics
/// Where shapes, devices or kinds disagree with that.
#[track_caller]
pub fn row_attention(queries: &Tensor, temperature: Option<&Tensor>, rows: &[RowKeys]) -> Tensor {
    let [batch, num_heads, one, head_dim] = queries.size().try_into().expect("row_attention: [B, H, 1, D]");
    assert_eq!([batch, one], [rows.len() as i64, 1], "row_attention: expected a query for each row");
    let rows: Vec<Row> = rows.iter().map(|row| row.checked([num_heads, head_dim])).collect();
    let queries = match temperature {
        Some(temperature) => queries * temperature.view([-1, 1, 1]),
        None => queries.shallow_clone(),
    };
    let queries = queries.contiguous();
    let read = Tensor::empty([batch, num_heads, 1, head_dim], (Kind::Float, Device::Cpu));
    let (all, width) = (slice::<f32>(&queries), head_dim as usize);
    let slots = Slots::<f32>::new(&read, width);
    threads::each(rows.len() * num_heads as usize, |task| {
        let (row, head) = (&rows[task / num_heads as usize], task % num_heads as usize);
        // SAFETY: each slot is one task's; the shapes were checked.
        unsafe { read_head(&all[task * width..(task + 1) * width], row, head, slots.of(task)) };
    });
    read
}

impl RowKeys<'_> {
    #[track_caller]
    fn checked(&self, shape: [i64; 2]) -> Row {
        let bias = self.bias.map(|(bias, start)| {
            let width = bias.size().last().copied().unwrap_or_default();
            assert!(
                bias.size() == [shape[0], width] && start >= 0 && start + self.num_seen <= width,
                "row_attention: expected a bias of {} heads and {} keys from {start} on, got {bias:?}",
                shape[0],
                self.num_seen
            );
            let values = slice::<f32>(bias);
            (values[start as usize..].as_ptr(), width as usize)
        });
        Row {
            keys: Heads::new(self.keys, shape, self.num_seen),
            values: Heads::new(self.values, shape, self.num_seen),
            num_seen: self.num_seen as usize,
            bias,
        }
    }
}

kernel! {
    unsafe fn read_head(query: &[f32], row: &Row, head: usize, read: &mut [f32]) = read_head_by
}

#[inline(always)]
unsafe fn read_head_by<S: Simd>(query: &[f32], row: &Row, head: usize, read: &mut [f32]) {
    read.fill(0.);
    if row.num_seen == 0 {
        return;
    }
    let width = query.len();
    // SAFETY: the caller's: heads, keys and bias are inside their tensors.
    unsafe {
        let key = |j: usize| {
            let start = row.keys.start.add(head * row.keys.head_stride + j * row.keys.stride);
            std::slice::from_raw_parts(start, width)
        };
        let mut logits = vec![0.; row.num_seen];
        for j in 0..row.num_seen {
            logits[j] = crate::simd::dot::<S, f32, f32>(query, key(j));
        }
        let bias = row
            .bias
            .map(|(start, stride)| std::slice::from_raw_parts(start.add(head * stride), row.num_seen));
        let (_, factor) = softmax::<S>(&mut logits, bias);
        let whole = width - width % S::LANES;
        let values = row.values.start.add(head * row.values.head_stride);
        let mut start = 0;
        // Four vectors at once, so that sums do not wait for each other.
        while start + 4 * S::LANES <= whole {
            let mut sums = [S::splat(0.); 4];
            for (j, weight) in logits.iter().enumerate() {
                let weight = S::splat(*weight);
                for v in 0..4 {
                    let value = S::load(values.add(j * row.values.stride + start + v * S::LANES));
                    sums[v] = value.mul_add(weight, sums[v]);
                }
            }
            for (v, sum) in sums.into_iter().enumerate() {
                sum.mul(S::splat(factor)).store(read.as_mut_ptr().add(start + v * S::LANES));
            }
            start += 4 * S::LANES;
        }
        while start < whole {
            let mut sum = S::splat(0.);
            for (j, weight) in logits.iter().enumerate() {
                sum = S::load(values.add(j * row.values.stride + start)).mul_add(S::splat(*weight), sum);
            }
            sum.mul(S::splat(factor)).store(read.as_mut_ptr().add(start));
            start += S::LANES;
        }
        for d in whole..width {
            for (j, weight) in logits.iter().enumerate() {
                read[d] += factor * weight * *values.add(j * row.values.stride + d);
            }
        }
    }
}
