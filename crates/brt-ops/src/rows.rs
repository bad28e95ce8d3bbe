//! Attention of single tokens, one of each text: what decoding does. Every row has keys of its own.

use tch::{Device, Kind, Tensor};

use crate::{Queries, composed_attention, dims};

/// What acts on the logits of a token by the distance of the key, for keys in a ring of W: laid out twice, so that it is a
/// slice wherever the ring begins.
#[derive(Debug)]
pub struct RingTables {
    window_len: i64,
    bias: Option<Tensor>,          // [H, 2W]
    rotation: Option<[Tensor; 2]>, // cosines and sines of keys, [2W, D / 2]
}

impl RingTables {
    /// Returns tables of what a token adds to its logits and how it rotates the W keys that it sees, from the key that is W
    /// tokens behind to the one right behind.
    ///
    /// # Shapes
    /// `bias`: `[H, W]`; `rotation` (cosines and sines): `[W, D / 2]` each.
    pub fn new(window_len: i64, bias: Option<&Tensor>, rotation: Option<&[Tensor; 2]>) -> Self {
        let twice = |x: &Tensor, axis: i64| Tensor::cat(&[x, x], axis);
        let bias = bias.map(|bias| twice(&bias.detach().to_kind(Kind::Float), 1));
        Self { window_len, bias, rotation: rotation.map(|[cos, sin]| [twice(cos, 0), twice(sin, 0)]) }
    }
}

/// Keys and values that the token of one row sees.
#[derive(Debug, Clone, Copy)]
pub struct RowKeys<'a> {
    /// `[1, H, len, D]`; the first `num_seen` of them are seen.
    pub keys: &'a Tensor,
    /// As the keys.
    pub values: &'a Tensor,
    /// How many are seen.
    pub num_seen: i64,
    /// In a ring: where the next token goes, the slot of the key that is W tokens behind.
    pub next_slot: i64,
}

impl<'a> RowKeys<'a> {
    /// All keys are seen, wherever they stand.
    pub fn all(keys: &'a Tensor, values: &'a Tensor) -> Self {
        Self { keys, values, num_seen: keys.size()[2], next_slot: 0 }
    }

    fn native(&self, tables: Option<&'a RingTables>) -> brt_native::RowKeys<'a> {
        let Self { keys, values, num_seen, next_slot } = *self;
        let bias = tables.and_then(|tables| Some((tables.bias.as_ref()?, tables.window_len - next_slot)));
        brt_native::RowKeys { keys, values, num_seen, bias }
    }
}

/// Returns what the token of each row reads: `softmax(temperature · query · keysᵀ + bias) · values`, zeros for one that sees
/// no key.
///
/// # Shapes
/// `queries` and the result: `[B, H, 1, D]`; `rows`: B.
///
/// # Panics
/// Where the shapes disagree.
#[track_caller]
pub fn row_attention(queries: &Queries, rows: &[RowKeys], tables: Option<&RingTables>) -> Tensor {
    let [batch, _, one, _] = dims("queries", &queries.heads);
    assert_eq!([batch, one], [rows.len() as i64, 1], "queries: expected one for each row");
    let has_rotation = tables.is_some_and(|tables| tables.rotation.is_some());
    if queries.heads.device() == Device::Cpu && queries.heads.kind() == Kind::Float && !has_rotation {
        let rows: Vec<brt_native::RowKeys> = rows.iter().map(|row| row.native(tables)).collect();
        return brt_native::row_attention(&queries.heads, queries.temperature.as_ref(), &rows);
    }
    composed_rows(queries, rows, tables)
}

/// Row by row.
fn composed_rows(queries: &Queries, rows: &[RowKeys], tables: Option<&RingTables>) -> Tensor {
    let queries = queries.scaled();
    let read: Vec<Tensor> = rows
        .iter()
        .enumerate()
        .map(|(i, row)| composed_row(&queries.narrow(0, i as i64, 1), row, tables))
        .collect();
    Tensor::cat(&read, 0)
}

/// One row by one tensor operation after another: `[1, H, 1, D]`.
fn composed_row(query: &Tensor, row: &RowKeys, tables: Option<&RingTables>) -> Tensor {
    if row.num_seen == 0 {
        return query.zeros_like();
    }
    let seen = |x: &Tensor| x.narrow(2, 0, row.num_seen);
    let (keys, values) = (seen(row.keys), seen(row.values));
    let Some(tables) = tables else { return composed_attention(query, &keys, &values, None, None) };
    let start = tables.window_len - row.next_slot;
    let bias = tables.bias.as_ref().map(|bias| bias.narrow(1, start, row.num_seen).unsqueeze(1)); // [H, 1, seen]
    let keys = match &tables.rotation {
        Some(rotation) => {
            crate::position::rotate(&keys, &rotation.each_ref().map(|x| x.narrow(0, start, row.num_seen)))
        }
        None => keys,
    };
    composed_attention(query, &keys, &values, bias.as_ref(), None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PositionConfig, WindowShape, WindowTables, Windows};

    /// Rings that begin anywhere, rows that see few keys or none, with and without bias: as one row after the other, and as
    /// the keys in their order give it.
    #[test]
    fn both_ways_give_the_same() {
        tch::manual_seed(1);
        let draw = |size: &[i64]| Tensor::randn(size, (Kind::Float, Device::Cpu));
        for (window_len, head_dim) in [(1, 4), (7, 20), (19, 64), (33, 83)] {
            let table = WindowTables::new(
                WindowShape::token(window_len, window_len),
                &PositionConfig::PAPER,
                8,
                Device::Cpu,
            );
            let bias = draw(&[3, window_len]);
            let tables = RingTables::new(window_len, Some(&bias), None);
            let rings: Vec<[Tensor; 2]> =
                (0..4).map(|_| [&[1, 3, window_len, head_dim]; 2].map(|s| draw(s))).collect();
            let rows: Vec<RowKeys> = rings
                .iter()
                .enumerate()
                .map(|(i, [keys, values])| RowKeys {
                    keys,
                    values,
                    num_seen: window_len,
                    next_slot: (5 * i as i64) % window_len,
                })
                .collect();
            let queries = Queries { heads: draw(&[4, 3, 1, head_dim]), temperature: Some(draw(&[3])) };
            let got = row_attention(&queries, &rows, Some(&tables));
            let composed = composed_rows(&queries, &rows, Some(&tables));
            assert!((&got - &composed).abs().max().double_value(&[]) < 1e-5);
            for (i, row) in rows.iter().enumerate() {
                let order = |x: &Tensor| x.roll([-row.next_slot], [2]);
                let own = Queries {
                    heads: queries.heads.narrow(0, i as i64, 1),
                    temperature: queries.temperature.as_ref().map(Tensor::shallow_clone),
                };
                let sight = crate::Sight::Band { tables: &table, bias: Some(&bias) };
                let windows = Windows::alone(order(row.keys), order(row.values));
                let expected = crate::attention(&own, &windows, sight, None);
                assert!((got.narrow(0, i as i64, 1) - expected).abs().max().double_value(&[]) < 1e-5);
            }
            let few: Vec<RowKeys> = rows
                .iter()
                .enumerate()
                .map(|(i, row)| {
                    let num_seen = (i as i64 - 1).clamp(0, window_len);
                    RowKeys { num_seen, next_slot: num_seen, ..*row }
                })
                .collect();
            let got = row_attention(&queries, &few, Some(&tables));
            let composed = composed_rows(&queries, &few, Some(&tables));
            assert!((got - composed).abs().max().double_value(&[]) < 1e-5);
        }
    }
}
