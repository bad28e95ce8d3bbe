//! Functions of the autograd graph whose two passes are Rust.

use std::{
    ffi::{c_int, c_void},
    mem::ManuallyDrop,
    panic::{AssertUnwindSafe, catch_unwind},
    slice,
};

use tch::Tensor;
use torch_sys::C_tensor;

use crate::{check, ffi, raw};

/// The backward pass: from the gradients of the outputs (`None` where nothing came back) and the saved tensors to the
/// gradients of the inputs, `None` for those that have none.
type Backward = Box<dyn Fn(&[Option<Tensor>], &[Tensor]) -> Vec<Option<Tensor>> + Send + Sync>;

/// Connects `outputs`, which were computed from `inputs` without a graph, with them: `backward` gives the gradients. Where
/// no input needs any, the outputs are returned as they are.
///
/// `saved` are handed to `backward`; inputs and outputs that it needs belong there, not into its closure, which would
/// keep the graph alive for ever.
///
/// # Panics
/// Where there are no outputs. In the backward pass, where `backward` panics or returns another number of gradients than there are inputs.
pub fn attach(
    inputs: &[&Tensor],
    outputs: Vec<Tensor>,
    saved: &[&Tensor],
    backward: impl Fn(&[Option<Tensor>], &[Tensor]) -> Vec<Option<Tensor>> + Send + Sync + 'static,
) -> Vec<Tensor> {
    if !needs_gradient(inputs) {
        return outputs;
    }
    assert!(!outputs.is_empty(), "attach: expected outputs");
    let backward: Backward = Box::new(backward);
    let closure = Box::into_raw(Box::new(backward));
    let mut inputs: Vec<_> = inputs.iter().map(|x| raw(x)).collect();
    let mut saved: Vec<_> = saved.iter().map(|x| raw(x)).collect();
    let mut connected: Vec<_> = outputs.iter().map(raw).collect();
    // SAFETY: all tensors live for the whole call; the closure is given back by `drop_closure` once, with the graph or at
    // once on an error; `connected` receives new tensors that we own.
    unsafe {
        check(ffi::brt_attach(
            call_backward,
            drop_closure,
            closure.cast(),
            inputs.as_mut_ptr(),
            inputs.len(),
            saved.as_mut_ptr(),
            saved.len(),
            connected.as_mut_ptr(),
            connected.len(),
        ));
        connected.into_iter().map(|output| Tensor::from_ptr(output)).collect()
    }
}

/// Adds the gradients of all parameters, given those of `outputs`.
///
/// # Panics
/// Where the lists differ in length or shapes, or an output has no graph.
#[track_caller]
pub fn backward(outputs: &[&Tensor], gradients: &[&Tensor]) {
    assert_eq!(outputs.len(), gradients.len(), "backward: one gradient for each output");
    let mut outputs: Vec<_> = outputs.iter().map(|x| raw(x)).collect();
    let mut gradients: Vec<_> = gradients.iter().map(|x| raw(x)).collect();
    // SAFETY: all tensors live for the whole call.
    check(unsafe { ffi::brt_backward(outputs.as_mut_ptr(), gradients.as_mut_ptr(), outputs.len()) });
}

/// Returns whether a graph is recorded for any of these tensors.
pub(crate) fn needs_gradient(inputs: &[&Tensor]) -> bool {
    // SAFETY: reads a number of this thread.
    let is_on = unsafe { ffi::brt_grad_is_enabled() } != 0;
    is_on && inputs.iter().any(|x| x.requires_grad())
}

extern "C" fn call_backward(
    closure: *mut c_void,
    gradients: *mut *mut C_tensor,
    num_outputs: usize,
    saved: *mut *mut C_tensor,
    num_saved: usize,
    out: *mut *mut C_tensor,
    num_inputs: usize,
) -> c_int {
    // SAFETY: `closure` is the one of `attach`; the arrays have these lengths, and their tensors live during the call.
    let (backward, gradients, saved, out) = unsafe {
        let clone = |&tensor: &*mut C_tensor| Tensor::clone_from_ptr(tensor);
        // Of nothing there is no pointer.
        let list = |first: *mut *mut C_tensor, len| match len {
            0 => &[],
            _ => slice::from_raw_parts(first, len),
        };
        let gradients = list(gradients, num_outputs);
        let gradients: Vec<_> = gradients.iter().map(|g| (!g.is_null()).then(|| clone(g))).collect();
        let saved: Vec<_> = list(saved, num_saved).iter().map(clone).collect();
        (&*closure.cast::<Backward>(), gradients, saved, slice::from_raw_parts_mut(out, num_inputs))
    };
    // A panic must not cross C++; its message was printed by the panic hook.
    let computed = catch_unwind(AssertUnwindSafe(|| backward(&gradients, &saved)));
    let Some(computed) = computed.ok().filter(|computed| computed.len() == num_inputs) else { return 1 };
    for (place, gradient) in out.iter_mut().zip(computed) {
        if let Some(gradient) = gradient {
            *place = raw(&ManuallyDrop::new(gradient)); // The caller owns it.
        }
    }
    0
}

extern "C" fn drop_closure(closure: *mut c_void) {
    // SAFETY: the box of `attach`, which is given back once.
    drop(unsafe { Box::from_raw(closure.cast::<Backward>()) });
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    fn ones() -> Tensor {
        Tensor::ones([2], (Kind::Float, Device::Cpu)).set_requires_grad(true)
    }

    /// Gradients go to the inputs that have one; those that do not come back are missing; nothing needs to be saved.
    #[test]
    fn gradients_go_where_they_belong() {
        let (x, y) = (ones(), ones());
        let outputs = vec![&x.detach() * 2., &y.detach() * 3.];
        let outputs = attach(&[&x, &y], outputs, &[], |gradients, saved| {
            assert!(saved.is_empty() && gradients[1].is_none());
            vec![gradients[0].as_ref().map(|g| g * 2.), None]
        });
        backward(&[&outputs[0]], &[&x.full_like(5.)]);
        assert_eq!(x.grad(), x.full_like(10.));
        assert!(!y.grad().defined());
        assert!(!attach(&[&x.detach()], vec![x.detach()], &[], |_, _| vec![None])[0].requires_grad());
    }

    #[test]
    fn what_goes_wrong_is_an_error() {
        type Gradients = fn(&[Option<Tensor>], &[Tensor]) -> Vec<Option<Tensor>>;
        let cases: [Gradients; 2] = [|_, _| panic!("inside"), |_, _| vec![None, None]];
        for gradients in cases {
            let x = ones();
            let y = attach(&[&x], vec![x.detach()], &[], gradients).remove(0);
            let error = y.sum(Kind::Float).f_backward().unwrap_err().to_string();
            assert!(error.contains("expected a gradient for each input"), "{error}");
        }
    }

    /// There is no second derivative, and it says so.
    #[test]
    fn second_derivatives_are_refused() {
        let x = ones();
        let y = attach(&[&x], vec![x.detach()], &[], |g, _| vec![g[0].as_ref().map(Tensor::shallow_clone)]);
        let error = Tensor::f_run_backward(&[y[0].sum(Kind::Float)], &[&x], true, true).unwrap_err();
        assert!(error.to_string().contains("expected a first derivative, got a second one"), "{error}");
    }
}
