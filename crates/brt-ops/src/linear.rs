//! Dense layer.

use tch::Tensor;

use crate::{init::Init, params::Scope};

/// Dense layer `y = x · weightᵀ + bias`. Only gates have a bias.
#[derive(Debug)]
pub struct Linear {
    weight: Tensor,       // [out, in]
    bias: Option<Tensor>, // [out]
}

impl Linear {
    /// Returns a layer from `in_dim` to `out_dim` features without bias, drawn with variance `1 / in_dim`.
    pub fn new(p: &Scope, in_dim: i64, out_dim: i64) -> Self {
        Self { weight: weight(p, in_dim, out_dim, 1.), bias: None }
    }

    /// Returns a layer with bias, its weight drawn with variance `scale / in_dim`.
    pub fn with_bias(p: &Scope, in_dim: i64, out_dim: i64, scale: f64, bias: Init) -> Self {
        let bias = Some(p.param("bias", &[out_dim], bias));
        Self { weight: weight(p, in_dim, out_dim, scale), bias }
    }

    /// Returns `x · weightᵀ + bias`.
    ///
    /// # Shapes
    /// `x`: `[.., in]`; result: `[.., out]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let Some(product) = product_of_few_rows(x, &self.weight) else {
            return brt_native::linear(x, &self.weight, self.bias.as_ref());
        };
        match &self.bias {
            Some(bias) => product + bias,
            None => product,
        }
    }

    /// Returns the products with several layers without bias, one beside the other, where few rows make that the fastest
    /// ([`brt_native::few_rows_product`]).
    ///
    /// # Shapes
    /// `x`: `[.., in]`; result: `[.., sum of out]`.
    pub(crate) fn few_rows(layers: &[&Self], x: &Tensor) -> Option<Tensor> {
        let products = layers.iter().map(|layer| product_of_few_rows(x, &layer.weight));
        let products = products.collect::<Option<Vec<_>>>()?;
        Some(Tensor::cat(&products, -1))
    }

    /// Returns the weights of several layers without bias with the same input as one matrix, in the kind in which products are
    /// computed ([`brt_native::product_kind`]).
    ///
    /// # Shapes
    /// Result: `[sum of out, in]`.
    pub fn joined(layers: &[&Self]) -> Tensor {
        let weights: Vec<&Tensor> = layers.iter().map(|layer| &layer.weight).collect();
        let joined = Tensor::cat(&weights, 0);
        joined.to_kind(brt_native::product_kind(&joined))
    }
}

/// Returns `x · weightᵀ` of a few rows, `[.., in]` and `[out, in]`; nothing but inside of
/// [`brt_native::prefer_few_rows`], where there are many, and where there are gradients.
pub fn product_of_few_rows(x: &Tensor, weight: &Tensor) -> Option<Tensor> {
    brt_native::is_product_of_few_rows(x, weight).then(|| brt_native::few_rows_product(x, weight))
}

fn weight(p: &Scope, in_dim: i64, out_dim: i64, scale: f64) -> Tensor {
    p.param("weight", &[out_dim, in_dim], Init::VarianceScaling { scale, fan_in: in_dim })
}
