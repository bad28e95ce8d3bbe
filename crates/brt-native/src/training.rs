//! A fused optimiser, mixed precision, and segments that are computed again in the backward pass.

use std::{
    cell::{Cell, RefCell},
    ffi::{c_int, c_void},
    marker::PhantomData,
    mem::ManuallyDrop,
    panic::{AssertUnwindSafe, catch_unwind},
    slice,
    sync::{
        Arc, Mutex, PoisonError, TryLockError,
        atomic::{AtomicBool, Ordering},
    },
};

use tch::Tensor;
use torch_sys::C_tensor;

use crate::{check, ffi, raw};

/// Numbers of one update of [`adamw`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWStep {
    /// Number of the update, from 1.
    pub step_idx: u64,
    /// Learning rate.
    pub learning_rate: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Part of the parameters that is taken off them, times the learning rate.
    pub weight_decay: f64,
}

/// Updates parameters and moments in place, as one operation over all of them.
///
/// # Panics
/// Where the lists differ in length or shapes.
#[track_caller]
pub fn adamw(
    parameters: &[Tensor],
    gradients: &[Tensor],
    first_moments: &[Tensor],
    second_moments: &[Tensor],
    step: AdamWStep,
) {
    let n = parameters.len();
    let lens = [gradients.len(), first_moments.len(), second_moments.len()];
    assert_eq!(lens, [n; 3], "adamw: one gradient and two moments for each parameter");
    let [mut p, mut g, mut m, mut v] = [parameters, gradients, first_moments, second_moments].map(pointers);
    let AdamWStep { step_idx, learning_rate, beta1, beta2, epsilon, weight_decay } = step;
    // SAFETY: the pointers are live tensors for the whole call, `n` in each list.
    check(unsafe {
        ffi::brt_adamw(
            p.as_mut_ptr(),
            g.as_mut_ptr(),
            m.as_mut_ptr(),
            v.as_mut_ptr(),
            n,
            step_idx as i64,
            learning_rate,
            beta1,
            beta2,
            epsilon,
            weight_decay,
        )
    });
}

/// Runs `work` with matrix products in bfloat16 on the device of `like`; what they give is bfloat16, and joins float32 as
/// float32. Weights are cast once in `work`.
///
/// ```
/// use tch::{Device, Kind, Tensor};
/// let x = Tensor::ones([2, 2], (Kind::Float, Device::Cpu));
/// assert_eq!(brt_native::in_bfloat16(&x, || x.matmul(&x)).kind(), Kind::BFloat16);
/// assert_eq!(x.matmul(&x).kind(), Kind::Float);
/// ```
pub fn in_bfloat16<T>(like: &Tensor, work: impl FnOnce() -> T) -> T {
    /// Switches back, also when `work` panics.
    struct Restore<'a>(&'a Tensor, c_int);
    impl Drop for Restore<'_> {
        fn drop(&mut self) {
            let mut ignored = 0;
            // SAFETY: the tensor lives.
            let _ = unsafe { ffi::brt_set_autocast(raw(self.0), self.1, &mut ignored) };
        }
    }
    let mut before = 0;
    // SAFETY: the tensor lives, `before` receives a number.
    check(unsafe { ffi::brt_set_autocast(raw(like), 1, &mut before) });
    let _restore = Restore(like, before);
    work()
}

/// Which time a segment is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// In the forward pass, without a graph.
    First,
    /// In the backward pass, with one.
    Again,
}

/// A function that is called in the forward pass and again in the backward pass.
type Segment<'env> = Box<dyn Fn(&[Tensor], Pass) -> Vec<Tensor> + 'env>;

/// Where a segment is kept between the passes.
struct Slot {
    /// Empty when the scope has ended.
    segment: Mutex<Option<Segment<'static>>>,
    scope: Arc<Scope>,
}

/// What all segments of a scope share.
#[derive(Default)]
struct Scope {
    /// Whether the scope's thread waits for a backward pass, on whatever thread libtorch walks it.
    is_walked: AtomicBool,
    /// Held while a segment is computed: one at a time.
    turn: Mutex<()>,
}

/// The segments of a forward and a backward pass that keep their inputs alone: see [`segments`].
pub struct Segments<'env> {
    slots: RefCell<Vec<Arc<Slot>>>,
    scope: Arc<Scope>,
    /// Invariant, so that no shorter borrow passes for `'env`.
    lifetime: PhantomData<Cell<&'env ()>>,
}

/// Runs `work`, the forward and the backward pass of a step, in which [`Segments::recompute`] may borrow what outlives the
/// call. Its graph is walked by [`Segments::backward`] alone: while that lasts, and at no other time, are segments
/// computed again.
pub fn segments<'env, T>(work: impl FnOnce(&Segments<'env>) -> T) -> T {
    work(&Segments { slots: RefCell::default(), scope: Arc::default(), lifetime: PhantomData })
}

impl<'env> Segments<'env> {
    /// Adds the gradients of `loss` to those of all parameters.
    ///
    /// # Panics
    /// Where `loss` is no scalar with a graph, or a segment panics.
    #[track_caller]
    pub fn backward(&self, loss: &Tensor) {
        /// Says that the walk is over, also when it panics.
        struct Over<'a>(&'a AtomicBool);
        impl Drop for Over<'_> {
            fn drop(&mut self) {
                self.0.store(false, Ordering::SeqCst);
            }
        }
        self.scope.is_walked.store(true, Ordering::SeqCst);
        let _over = Over(&self.scope.is_walked);
        loss.backward();
    }

    /// Returns what `segment` makes of `inputs`, and keeps of it nothing but the inputs: the backward pass computes it
    /// again.
    ///
    /// The gradients are those of calling it directly, if both calls compute the same; random numbers are the caller's
    /// business ([`generator_state`]). Parameters that `segment` reads get their gradients in the backward pass.
    ///
    /// # Panics
    /// Where `segment` panics or returns another number of tensors than `num_outputs`. No input requires a gradient:
    /// then nothing would flow back into the parameters. `num_outputs` is 0. A segment is given within another.
    #[track_caller]
    pub fn recompute<F>(&self, inputs: &[&Tensor], num_outputs: usize, segment: F) -> Vec<Tensor>
    where
        F: Fn(&[Tensor], Pass) -> Vec<Tensor> + 'env,
    {
        assert!(
            inputs.iter().any(|x| x.requires_grad()),
            "recompute: expected an input that requires a gradient"
        );
        assert!(num_outputs > 0, "recompute: expected a segment with outputs");
        let segment: Segment<'env> = Box::new(segment);
        // SAFETY: the slot is emptied when `self` is dropped, which is at the end of `segments`, the only place that makes
        // one; `'env` outlives that call, for it is a parameter of it. It is called now, by this thread, or while this
        // thread waits in `backward`, and never twice at a time: nothing that it borrows is used by two threads at once.
        let segment: Segment<'static> = unsafe { std::mem::transmute(segment) };
        #[expect(
            clippy::arc_with_non_send_sync,
            reason = "on CUDA the backward pass runs on a thread of libtorch, while this one waits"
        )]
        let slot = Arc::new(Slot { segment: Mutex::new(Some(segment)), scope: Arc::clone(&self.scope) });
        self.slots.borrow_mut().push(Arc::clone(&slot));
        let mut inputs: Vec<_> = inputs.iter().map(|input| raw(input)).collect();
        let mut outputs = vec![std::ptr::null_mut(); num_outputs];
        // SAFETY: the inputs live for the whole call; the slot's count is given back by `drop_segment` with the graph;
        // `outputs` receives `num_outputs` new tensors that we own.
        unsafe {
            check(ffi::brt_recompute(
                call_segment,
                drop_segment,
                Arc::into_raw(slot).cast_mut().cast(),
                inputs.as_mut_ptr(),
                inputs.len(),
                outputs.as_mut_ptr(),
                num_outputs,
            ));
            outputs.into_iter().map(|output| Tensor::from_ptr(output)).collect()
        }
    }
}

impl Drop for Segments<'_> {
    fn drop(&mut self) {
        for slot in self.slots.get_mut() {
            slot.segment.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
    }
}

extern "C" fn call_segment(
    slot: *mut c_void,
    inputs: *mut *mut C_tensor,
    num_inputs: usize,
    again: c_int,
    outputs: *mut *mut C_tensor,
    num_outputs: usize,
) -> c_int {
    // SAFETY: `slot` is the one of `recompute`, alive as long as the graph; the arrays have these lengths and the inputs
    // live during the call.
    let (slot, inputs, outputs) = unsafe {
        let inputs = slice::from_raw_parts(inputs, num_inputs);
        let inputs: Vec<Tensor> = inputs.iter().map(|&input| Tensor::clone_from_ptr(input)).collect();
        (&*slot.cast::<Slot>(), inputs, slice::from_raw_parts_mut(outputs, num_outputs))
    };
    let pass = if again == 0 { Pass::First } else { Pass::Again };
    // A panic must not cross C++; its message was printed by the panic hook.
    let computed = catch_unwind(AssertUnwindSafe(|| {
        let is_allowed = pass == Pass::First || slot.scope.is_walked.load(Ordering::SeqCst);
        let _turn = match slot.scope.turn.try_lock() {
            Err(TryLockError::WouldBlock) => return None,
            turn => turn.ok(), // One that panicked has left nothing behind.
        };
        let segment = slot.segment.lock().unwrap_or_else(PoisonError::into_inner);
        segment.as_ref().filter(|_| is_allowed).map(|segment| segment(&inputs, pass))
    }));
    let computed = computed.ok().flatten().filter(|computed| computed.len() == num_outputs);
    let Some(computed) = computed else { return 1 };
    for (place, output) in outputs.iter_mut().zip(computed) {
        *place = raw(&ManuallyDrop::new(output)); // The caller owns it.
    }
    0
}

extern "C" fn drop_segment(slot: *mut c_void) {
    // SAFETY: the count of `recompute`, which is given back once.
    drop(unsafe { Arc::from_raw(slot.cast::<Slot>()) });
}

/// Returns the state of the random numbers on the device of `like`.
pub fn generator_state(like: &Tensor) -> Tensor {
    let mut out = std::ptr::null_mut();
    // SAFETY: the tensor lives; `out` receives a new one that we own.
    unsafe {
        check(ffi::brt_generator_state(raw(like), &mut out));
        Tensor::from_ptr(out)
    }
}

/// Sets the state of the random numbers on the device of `like`.
///
/// # Panics
/// For anything but what [`generator_state`] returned.
#[track_caller]
pub fn set_generator_state(like: &Tensor, state: &Tensor) {
    // SAFETY: both tensors live.
    check(unsafe { ffi::brt_set_generator_state(raw(like), raw(state)) });
}

fn pointers(tensors: &[Tensor]) -> Vec<*mut C_tensor> {
    tensors.iter().map(raw).collect()
}
