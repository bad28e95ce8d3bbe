//! What a model is told by: a hash of its configuration and parameters.

use sha2::{Digest, Sha256};
use tch::{Device, Kind, Tensor};

use crate::{LanguageModel, ModelConfig};

impl LanguageModel {
    /// Returns the SHA-256, in hexadecimal digits, of what decides the model's numbers: its configuration but for dropout, and
    /// its parameters with their names. It is computed once, when it is first
    /// asked for: ask after the parameters are loaded or trained.
    pub fn hash(&self) -> &str {
        self.hash.get_or_init(|| {
            let config = ModelConfig { dropout: 0., attention_dropout: 0., ..self.config().clone() };
            let mut hash = Sha256::new();
            hash.update(serde_json::to_string(&config).expect("a configuration of plain values"));
            for (name, parameter) in self.params().named() {
                hash.update(format!("\n{name} {:?}\n", parameter.size()));
                hash.update(bytes(&parameter));
            }
            format!("{:x}", hash.finalize())
        })
    }
}

fn bytes(parameter: &Tensor) -> Vec<u8> {
    let parameter = parameter.detach().to_device(Device::Cpu).to_kind(Kind::Float).contiguous();
    let mut bytes = vec![0; parameter.numel() * Kind::Float.elt_size_in_bytes()];
    parameter.copy_data_u8(&mut bytes, parameter.numel());
    bytes
}
