// What training needs of libtorch and tch does not expose: a fused optimiser, mixed precision, segments that are computed
// again in the backward pass, the state of the random numbers. Functions that can fail return 0, or 1 with brt_last_error()
// set.
#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/ivalue.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/custom_class.h>
#include <vector>
#include "guarded.h"
#include "tensors.h"

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

namespace {
at::Generator generator(const at::Tensor& like) {
  return at::globalContext().defaultGenerator(like.device());
}

// Sets mixed precision as it was in the forward pass, and back when the scope ends, also by an exception.
struct Autocast {
  const c10::DeviceType device;
  const bool before = at::autocast::is_autocast_enabled(device);
  const at::ScalarType kind_before = at::autocast::get_autocast_dtype(device);

  Autocast(c10::DeviceType device, bool on, at::ScalarType kind) : device(device) {
    at::autocast::set_autocast_enabled(device, on);
    at::autocast::set_autocast_dtype(device, kind);
  }
  ~Autocast() {
    at::autocast::set_autocast_enabled(device, before);
    at::autocast::set_autocast_dtype(device, kind_before);
    if (!before) at::autocast::clear_cache();  // Weights change before the next step.
  }
};

// Weights that are cast without a graph must not be taken for those that are cast with one.
struct NoAutocastCache {
  const bool before = at::autocast::is_autocast_cache_enabled();
  NoAutocastCache() { at::autocast::set_autocast_cache_enabled(false); }
  ~NoAutocastCache() { at::autocast::set_autocast_cache_enabled(before); }
};

// A Rust closure: fills `outputs` with `num_outputs` new tensors, which the caller owns. `again` is 1 in the backward pass.
typedef int (*segment_call)(void* closure, tensor* inputs, size_t num_inputs, int again, tensor* outputs,
                            size_t num_outputs);

struct Segment : torch::CustomClassHolder {
  segment_call call;
  void (*drop)(void*);
  void* closure;
  size_t num_outputs;

  Segment(segment_call call, void (*drop)(void*), void* closure, size_t num_outputs)
      : call(call), drop(drop), closure(closure), num_outputs(num_outputs) {}
  ~Segment() override { drop(closure); }

  variable_list run(const variable_list& inputs, bool again) {
    std::vector<tensor> in, out(num_outputs, nullptr);
    for (const auto& input : inputs) in.push_back(const_cast<tensor>(&input));
    TORCH_CHECK(call(closure, in.data(), in.size(), again, out.data(), out.size()) == 0,
                "a segment that is computed again: expected its outputs, got a panic, or the end of its scope");
    variable_list outputs;
    for (tensor output : out) {
      outputs.push_back(*output);
      delete output;
    }
    return outputs;
  }
};

// Keeps the inputs of a segment instead of everything inside it. Parameters that the closure reads get their gradients
// straight from the inner backward pass.
struct Recompute : torch::autograd::Function<Recompute> {
  static variable_list forward(AutogradContext* ctx, c10::intrusive_ptr<Segment> segment, at::TensorList inputs) {
    variable_list in(inputs.begin(), inputs.end());
    ctx->saved_data["segment"] = c10::IValue::make_capsule(segment);
    const auto device = in[0].device().type();
    ctx->saved_data["autocast"] = at::autocast::is_autocast_enabled(device);
    ctx->saved_data["kind"] = static_cast<int64_t>(at::autocast::get_autocast_dtype(device));
    ctx->save_for_backward(in);
    at::AutoGradMode no_grad(false);
    NoAutocastCache no_cache;
    return segment->run(in, false);
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    auto segment = c10::static_intrusive_pointer_cast<Segment>(ctx->saved_data["segment"].toCapsule());
    variable_list in;
    for (const auto& saved : ctx->get_saved_variables())
      in.push_back(saved.detach().set_requires_grad(saved.requires_grad()));
    variable_list out;
    {
      Autocast autocast(in[0].device().type(), ctx->saved_data["autocast"].toBool(),
                        static_cast<at::ScalarType>(ctx->saved_data["kind"].toInt()));
      at::AutoGradMode grad(true);
      out = segment->run(in, true);
    }
    variable_list reached, given;
    for (size_t i = 0; i < out.size(); i++) {
      if (!out[i].requires_grad() || !gradients[i].defined()) continue;
      reached.push_back(out[i]);
      given.push_back(gradients[i]);
    }
    if (!reached.empty()) torch::autograd::backward(reached, given);
    variable_list result{at::Tensor()};  // For the segment itself.
    for (const auto& input : in) result.push_back(input.requires_grad() ? input.grad() : at::Tensor());
    return result;
  }
};
}  // namespace

extern "C" {

int brt_adamw(tensor* parameters, tensor* gradients, tensor* first, tensor* second, size_t n, int64_t step_idx,
              double learning_rate, double beta1, double beta2, double epsilon, double weight_decay) {
  return guarded([&] {
    if (n == 0) return;
    at::NoGradGuard no_grad;
    const auto p = list(parameters, n);
    const auto step = at::full({}, static_cast<double>(step_idx), p[0].options().dtype(at::kFloat).requires_grad(false));
    const std::vector<at::Tensor> steps(n, step);
    at::_fused_adamw_(p, list(gradients, n), list(first, n), list(second, n), {}, steps, learning_rate, beta1, beta2,
                      weight_decay, epsilon, false, false);
  });
}

int brt_recompute(segment_call call, void (*drop)(void*), void* closure, tensor* inputs, size_t num_inputs,
                  tensor* outputs, size_t num_outputs) {
  return guarded([&] {
    auto segment = c10::make_intrusive<Segment>(call, drop, closure, num_outputs);
    const auto in = list(inputs, num_inputs);
    const auto out = Recompute::apply(segment, at::TensorList(in));
    for (size_t i = 0; i < num_outputs; i++) outputs[i] = new at::Tensor(out[i]);
  });
}

// Matrix products in bfloat16 from here on, on devices of this tensor's kind; returns whether it was so before.
int brt_set_autocast(tensor like, int on, int* before) {
  return guarded([&] {
    const auto device = like->device().type();
    *before = at::autocast::is_autocast_enabled(device);
    at::autocast::set_autocast_enabled(device, on);
    if (on) {
      at::autocast::set_autocast_dtype(device, at::kBFloat16);
    } else {
      at::autocast::clear_cache();  // Weights change between steps.
    }
  });
}

// Whether products on devices of this tensor's kind are bfloat16 now; never where a device has no mixed precision.
int brt_is_autocast(tensor like) {
  bool is_on = false;
  guarded([&] { is_on = at::autocast::is_autocast_enabled(like->device().type()); });
  return is_on;
}

int brt_generator_state(tensor like, tensor* out) {
  return guarded([&] {
    auto g = generator(*like);
    std::lock_guard<std::mutex> lock(g.mutex());
    *out = new at::Tensor(g.get_state());
  });
}

int brt_set_generator_state(tensor like, tensor state) {
  return guarded([&] {
    auto g = generator(*like);
    std::lock_guard<std::mutex> lock(g.mutex());
    g.set_state(*state);
  });
}
}
