//! One pre-norm transformer layer over a segment, block by block.

use brt_ops::{
    Carry, CrossQueries, Linear, Mlp, Mode, PositionBias, PositionConfig, Projected, Projection,
    ProjectionConfig, QkNorm, Queries, RingTables, RmsNorm, Scope, Sight, Temperature, WindowTables, Windows,
    attention, dropout,
};
use tch::Tensor;

use crate::KvCache;

/// Shape and options of a layer.
#[derive(Debug, Clone, Copy)]
pub struct LayerConfig {
    /// Width E of the residual stream.
    pub model_dim: i64,
    /// Number of heads H.
    pub num_heads: i64,
    /// Width D of a head.
    pub head_dim: i64,
    /// Hidden width M of the feed-forward layer.
    pub ffn_dim: i64,
    /// Normalisation of queries and keys.
    pub qk_norm: QkNorm,
    /// How temperatures act.
    pub temperature: Temperature,
    /// What flows from block to block.
    pub carry: Carry,
    /// Position information of self-attention.
    pub position: PositionConfig,
    /// Whether tokens also attend to recurrent states.
    pub cross_queries: CrossQueries,
    /// Dropout rate of activations.
    pub dropout: f64,
    /// Dropout rate of attention probabilities.
    pub attention_dropout: f64,
}

/// Ordinary transformer layer; with cross queries also the token half of a recurrent layer.
#[derive(Debug)]
pub struct TransformerLayer {
    attention: Projection,
    position_bias: Option<PositionBias>,
    attention_out: Linear, // [E, HD] or [E, 2HD]
    ffn_norm: RmsNorm,
    ffn: Mlp,
    config: LayerConfig,
}

impl TransformerLayer {
    /// Returns a layer with drawn weights.
    pub fn new(p: &Scope, config: LayerConfig) -> Self {
        let LayerConfig { model_dim, num_heads, head_dim, ffn_dim, cross_queries, .. } = config;
        let num_attentions = if cross_queries == CrossQueries::Present { 2 } else { 1 };
        let projection = ProjectionConfig {
            model_dim,
            num_heads,
            head_dim,
            qk_norm: config.qk_norm,
            temperature: config.temperature,
            num_states: None,
            cross_queries,
        };
        Self {
            attention: Projection::new(&(p / "attention"), projection),
            position_bias: PositionBias::new(&(p / "position_bias"), &config.position, num_heads),
            attention_out: Linear::new(
                &(p / "attention_out"),
                num_attentions * num_heads * head_dim,
                model_dim,
            ),
            ffn_norm: RmsNorm::new(&(p / "ffn_norm"), model_dim),
            ffn: Mlp::new(&(p / "ffn"), model_dim, ffn_dim, model_dim),
            config,
        }
    }

    /// Returns the layer's output and the cache for the next segment. `cache` holds the block before the segment.
    ///
    /// # Shapes
    /// `xs` and the output: `[n, B, W, E]`, block by block.
    pub fn forward(
        &self,
        xs: &Tensor,
        cache: &KvCache,
        tables: &WindowTables,
        mode: Mode,
    ) -> (Tensor, KvCache) {
        let projected = self.project(xs, mode);
        let windows = self.windows(&projected, cache);
        let attended = self.self_attention(&projected, &windows, tables, mode);
        let next = self.next_cache(&projected);
        (self.finish(xs, &[attended], mode), next)
    }

    /// Returns keys, values and queries of the tokens.
    ///
    /// # Shapes
    /// `xs`: `[n, B, W, E]`; results: `[n, B, H, W, D]`.
    pub fn project(&self, xs: &Tensor, mode: Mode) -> Projected {
        self.attention.forward(xs, |u| dropout::tiled_dropout(&u, self.config.dropout, mode))
    }

    /// Returns the keys and values that each block sees: its own and those of the block before it.
    pub fn windows(&self, projected: &Projected, cache: &KvCache) -> Windows {
        Windows::new([&projected.keys, &projected.values], [&cache.keys, &cache.values], self.config.carry)
    }

    /// Returns the cache for the next segment.
    pub fn next_cache(&self, projected: &Projected) -> KvCache {
        KvCache::last_block(&projected.keys, &projected.values, self.config.carry)
    }

    /// Returns the part of the layer that makes queries and keys.
    pub fn projection(&self) -> &Projection {
        &self.attention
    }

    /// Returns the tables with which single tokens read rings. `tables`: those of a token after the W keys that it sees.
    pub fn ring_tables(&self, tables: &WindowTables) -> RingTables {
        let bias = self.position_bias.as_ref();
        let bias = bias.map(|b| self.attention.scale_bias(&tables.bias_by_distance(b))); // [H, W]
        let is_rotary = matches!(self.config.position, PositionConfig::Rotary { .. });
        let rotation = tables.key_rotation().filter(|_| is_rotary);
        RingTables::new(tables.shape()[1], bias.as_ref(), rotation)
    }

    /// Returns what each token reads from exactly the W tokens before it.
    ///
    /// # Shapes
    /// Result: `[n, B, H, W, D]`.
    pub fn self_attention(
        &self,
        p: &Projected,
        windows: &Windows,
        tables: &WindowTables,
        mode: Mode,
    ) -> Tensor {
        let bias = self.position_bias.as_ref();
        let bias = bias.map(|b| self.attention.scale_bias(&tables.bias_by_distance(b))); // [H, R]
        let [num_queries, num_keys] = tables.shape();
        let shape = [self.config.num_heads, num_queries, num_keys];
        let multiplier = dropout::attention_multiplier(
            shape,
            self.config.attention_dropout,
            mode,
            p.queries.heads.device(),
        );
        let sight = Sight::Band { tables, bias: bias.as_ref() };
        let PositionConfig::Rotary { .. } = self.config.position else {
            return attention(&p.queries, windows, sight, multiplier.as_ref());
        };
        let joined = windows.joined(); // A key's angle depends on the block that looks at it.
        let (heads, keys) = tables.rotate(&p.queries.heads, &joined.keys);
        let temperature = p.queries.temperature.as_ref().map(Tensor::shallow_clone);
        let queries = Queries { heads, temperature };
        attention(&queries, &Windows::alone(keys, joined.values), sight, multiplier.as_ref())
    }

    /// Projects what the tokens read, adds the residual and runs the feed-forward layer.
    ///
    /// # Shapes
    /// `xs` and the result: `[n, B, W, E]`; `attended`: `[n, B, H, W, D]` each, self-attention first.
    pub fn finish(&self, xs: &Tensor, attended: &[Tensor], mode: Mode) -> Tensor {
        let heads: Vec<Tensor> = attended.iter().map(|x| x.transpose(-3, -2).flatten(-2, -1)).collect();
        let heads = match heads.as_slice() {
            [one] => one.shallow_clone(),
            several => Tensor::cat(several, -1),
        }; // [n, B, W, HD or 2HD]
        let (x1, u) = self.ffn_norm.add_forward(xs, &self.attention_out.forward(&heads));
        let (_, z) = self.ffn.forward(&u); // [n, B, W, E]
        x1 + dropout::tiled_dropout(&z, self.config.dropout, mode)
    }
}
