use super::*;
use tch::Device;

fn optimizer(shape: &[i64]) -> (Adafactor, Tensor) {
    let parameter = Tensor::ones(shape, (Kind::Float, Device::Cpu)).set_requires_grad(true);
    let named = vec![("p".into(), parameter.shallow_clone())];
    (Adafactor::new(AdafactorConfig::PAPER, named), parameter)
}

/// After a step with learning rate 0, as at the start of a warm-up, nothing has moved but the second moments.
#[test]
fn a_step_of_rate_zero_moves_nothing() {
    let (mut adafactor, parameter) = optimizer(&[4, 3]);
    parameter.square().sum(Kind::Float).backward();
    adafactor.step(0.);
    assert_eq!(parameter, parameter.ones_like());
    let moments = adafactor.named();
    let moment = |name: &str| moments.iter().find(|(n, _)| n == name).unwrap().1.copy();
    assert_eq!(moment("p.momentum"), parameter.zeros_like());
    assert_eq!(moment("p.second_moment"), parameter.full_like(4.)); // The gradient is 2.
}

/// A matrix is factored where both of its dimensions reach 128.
#[test]
fn small_matrices_are_not_factored() {
    let kinds = |shape: &[i64]| -> Vec<String> {
        optimizer(shape).0.named().into_iter().map(|(name, _)| name).collect()
    };
    assert_eq!(kinds(&[128, 127]), ["p.momentum", "p.second_moment"]);
    assert_eq!(kinds(&[128, 128]), ["p.column", "p.momentum", "p.row"]);
    assert_eq!(kinds(&[4096]), ["p.momentum", "p.second_moment"]);
}

/// Trains parameters for three steps with constant gradients, and returns them.
fn train(parameters: Vec<Tensor>, gradients: &[Tensor]) -> Vec<Tensor> {
    let config = AdafactorConfig { weight_decay: 0.01, ..AdafactorConfig::PAPER };
    let parameters: Vec<Tensor> = parameters.into_iter().map(|p| p.set_requires_grad(true)).collect();
    let named = parameters.iter().enumerate().map(|(idx, p)| (format!("{idx}.weight"), p.shallow_clone()));
    let mut adafactor = Adafactor::new(config, named.collect());
    for _ in 0..3 {
        brt_native::drop_gradients(&parameters);
        for (parameter, gradient) in parameters.iter().zip(gradients) {
            (parameter * gradient).sum(Kind::Float).backward();
        }
        adafactor.step(0.1);
    }
    parameters.iter().map(Tensor::detach).collect()
}

fn assert_close(got: &[Tensor], expected: &[Tensor]) {
    assert_eq!(got.len(), expected.len());
    for (got, expected) in got.iter().zip(expected) {
        let difference = (got - expected).abs().max().double_value(&[]);
        assert!(difference < 1e-6, "{:?}: {difference}", got.size());
    }
}

/// What kernels do to matrices is what tensor operations do: the same matrices, contiguous and not.
#[test]
fn kernels_equal_tensor_operations() {
    let options = (Kind::Float, Device::Cpu);
    for (rows, columns) in [(130, 200), (200, 130), (128, 128)] {
        tch::manual_seed(1);
        let [starts, gradients] = [0, 1].map(|_| [0, 1].map(|_| Tensor::randn([rows, columns], options)));
        let turned = |start: &Tensor| start.transpose(0, 1).contiguous().transpose(0, 1);
        let operations = starts.iter().map(turned).collect::<Vec<_>>();
        assert!(!operations[0].is_contiguous());
        let kernels = starts.iter().map(Tensor::copy).collect();
        assert_close(&train(operations, &gradients), &train(kernels, &gradients));
    }
}

/// Parameters that are updated together do not know of each other.
#[test]
fn each_parameter_has_its_own_moments() {
    tch::manual_seed(1);
    let shapes: [&[i64]; 7] = [&[], &[], &[5], &[5], &[4, 3], &[4, 3], &[2, 3, 4]];
    let random =
        |idx: usize, shape: &&[i64]| Tensor::randn(*shape, (Kind::Float, Device::Cpu)) * (idx as f64 + 0.1);
    let starts: Vec<Tensor> = shapes.iter().enumerate().map(|(idx, shape)| random(idx, shape)).collect();
    let gradients: Vec<Tensor> =
        shapes.iter().enumerate().map(|(idx, shape)| random(7 - idx, shape)).collect();
    let together = train(starts.iter().map(Tensor::copy).collect(), &gradients);
    let alone = starts.iter().zip(&gradients);
    let alone: Vec<Tensor> = alone
        .flat_map(|(start, gradient)| train(vec![start.copy()], std::slice::from_ref(gradient)))
        .collect();
    assert_close(&together, &alone);
}
