//! Trains a model of your own, a recurrent counter, on batches of your own: only the trait is needed.
#![expect(clippy::print_stdout, reason = "an example speaks to its reader")]

use brt_trainer::{
    AdamWConfig, Decay, Learner, LearnerConfig, Model, NonFinite, OptimizerConfig, ScheduleConfig, Segments,
};
use tch::{Device, Kind, Tensor};

/// Adds what it reads, times a weight, to what it carries: it should learn that the weight is 3.
struct Counter {
    weight: Tensor,
}

impl Model for Counter {
    type Batch = [f64; 2]; // What is read, and the sum that is right after it.
    type State = Tensor;

    fn parameters(&self) -> Vec<(String, Tensor)> {
        vec![("weight".into(), self.weight.shallow_clone())]
    }

    fn num_scored(_batch: &[f64; 2]) -> u64 {
        1
    }

    fn loss<'env>(&'env self, [x, y]: &[f64; 2], sum: &Tensor, _: &Segments<'env>) -> (Tensor, Tensor) {
        let sum = sum + &self.weight * *x;
        ((&sum - *y).square(), sum)
    }

    fn detach(sum: &Tensor) -> Tensor {
        sum.detach()
    }

    fn state_tensors(sum: &Tensor) -> Vec<(String, Tensor)> {
        vec![("sum".into(), sum.shallow_clone())]
    }
}

fn main() -> Result<(), brt_trainer::TrainError> {
    let zero = || Tensor::zeros([], (Kind::Float, Device::Cpu));
    let decay = Decay::Matrices;
    let adamw = AdamWConfig { beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weight_decay: 0., decay };
    let schedule = ScheduleConfig::constant(0.1);
    let (optimizer, non_finite) = (OptimizerConfig::AdamW(adamw), NonFinite::Stop);
    let config =
        LearnerConfig { optimizer, schedule, num_steps: 200, max_gradient_norm: Some(1.), non_finite };
    let mut learner =
        Learner::new(Counter { weight: zero().set_requires_grad(true) }, vec![zero()], config, 1);
    for step in 0..200 {
        learner.states_mut()[0] = zero(); // Each step is a text of its own.
        let report = learner.step(&[[f64::from(step % 3), 3. * f64::from(step % 3)]])?;
        if report.step % 50 == 0 {
            println!("step {}: weight {:.4}", report.step, learner.model.weight.double_value(&[]));
        }
    }
    Ok(())
}
