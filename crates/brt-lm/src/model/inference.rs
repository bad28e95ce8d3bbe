//! What reading and writing texts needs of a model: its parts one by one, without gradients, in either precision.

use brt_ops::{Mode, PositionConfig, loss, position::absolute_encoding, product_of_few_rows};
use tch::{Kind, Tensor};

use super::{LanguageModel, Pass};
use crate::ModelState;

impl LanguageModel {
    /// Returns the model with its matrices in bfloat16, for reading and writing texts: half the memory, and less time
    /// for each token where memory decides. It cannot be trained.
    #[must_use]
    pub fn into_bfloat16(self) -> Self {
        self.hash(); // That of the values that it was trained to.
        for (name, mut parameter) in self.params.named() {
            let is_matrix =
                parameter.dim() == 2 && name.ends_with(".weight") && !name.contains("position_bias");
            if is_matrix {
                let halved = tch::no_grad(|| parameter.to_kind(Kind::BFloat16));
                let _ = parameter.set_requires_grad(false);
                parameter.set_data(&halved);
            }
        }
        self
    }

    /// Returns the kind of the model's matrices.
    pub fn kind(&self) -> Kind {
        self.embedding.kind()
    }

    /// Runs `work` with matrix products of many rows in the kind of the model's matrices.
    pub(crate) fn in_own_kind<T>(&self, work: impl FnOnce() -> T) -> T {
        match self.kind() {
            Kind::BFloat16 => brt_native::in_bfloat16(&self.embedding, work),
            _ => work(),
        }
    }

    /// Returns what [`Self::unembed`] makes logits of, `[B, N, E]`, without gradient, and the state after the segment.
    pub(crate) fn outputs(&self, tokens: &Tensor, state: &ModelState) -> (Tensor, ModelState) {
        let pass = Pass { mode: Mode::Eval, segments: None };
        tch::no_grad(|| self.in_own_kind(|| self.run(tokens, state, pass)))
    }

    /// Returns the nats of tokens by what [`Self::outputs`] returned before each, `[len, E]`.
    pub(crate) fn nats(&self, xs: &Tensor, tokens: &[i64]) -> Vec<f64> {
        let targets = Tensor::from_slice(tokens).to_device(xs.device());
        let mask = targets.ones_like().to_kind(Kind::Float);
        let nats = loss::unembedded_cross_entropy(&self.scale_outputs(xs), &self.embedding, &targets, &mask);
        Vec::try_from(nats.to_kind(Kind::Double)).expect("a vector")
    }

    /// Returns the embeddings of `tokens`; no scaling.
    ///
    /// # Shapes
    /// `tokens`: `[..]`; result: `[.., E]`.
    pub(crate) fn embed(&self, tokens: &Tensor) -> Tensor {
        Tensor::embedding(&self.embedding, tokens, -1, false, false).to_kind(Kind::Float)
    }

    /// Returns the logits of normalised outputs, by the tied embedding.
    ///
    /// # Shapes
    /// `xs`: `[.., E]`; result: `[.., V]`.
    pub(crate) fn unembed(&self, xs: &Tensor) -> Tensor {
        let xs = self.scale_outputs(xs);
        product_of_few_rows(&xs, &self.embedding)
            .unwrap_or_else(|| brt_native::linear(&xs, &self.embedding, None))
    }

    /// Returns the final norm's output, `[.., E]`.
    pub(crate) fn finish(&self, xs: &Tensor) -> Tensor {
        self.final_norm.forward(xs)
    }

    /// Returns what absolute positions add to the embeddings of `len` tokens from `start` of a segment on, `[len, E]`;
    /// `None` where positions are of another kind.
    pub(crate) fn absolute_encoding(&self, start: i64, len: i64) -> Option<Tensor> {
        let PositionConfig::Absolute { max_half_wavelength } = self.config.position else { return None };
        let (dim, device) = (self.config.model_dim, self.params.device());
        Some(absolute_encoding(start, len, dim, max_half_wavelength, device))
    }
}
