// An autograd node whose backward pass is a Rust closure.
#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/custom_class.h>
#include <vector>
#include "guarded.h"

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
typedef at::Tensor* tensor;

namespace {
// Fills `out` with a new tensor for each input, null where it has no gradient; null stands for gradients that are missing.
typedef int (*backward_call)(void* closure, tensor* gradients, size_t num_outputs, tensor* saved, size_t num_saved,
                             tensor* out, size_t num_inputs);

struct Closure : torch::CustomClassHolder {
  backward_call call;
  void (*drop)(void*);
  void* closure;
  size_t num_inputs;

  Closure(backward_call call, void (*drop)(void*), void* closure, size_t num_inputs)
      : call(call), drop(drop), closure(closure), num_inputs(num_inputs) {}
  ~Closure() override { drop(closure); }
};

struct Node : torch::autograd::Function<Node> {
  // The outputs were computed before; here they get their node.
  static variable_list forward(AutogradContext* ctx, c10::intrusive_ptr<Closure> closure, at::TensorList /*inputs*/,
                               const variable_list& outputs, const variable_list& saved) {
    ctx->saved_data["closure"] = c10::IValue::make_capsule(closure);
    ctx->save_for_backward(saved);
    ctx->set_materialize_grads(false);
    return outputs;
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    TORCH_CHECK(!at::GradMode::is_enabled(), "expected a first derivative, got a second one");
    auto closure = c10::static_intrusive_pointer_cast<Closure>(ctx->saved_data["closure"].toCapsule());
    const auto saved = ctx->get_saved_variables();
    std::vector<tensor> in, kept, out(closure->num_inputs, nullptr);
    for (auto& gradient : gradients) in.push_back(gradient.defined() ? &gradient : nullptr);
    for (const auto& one : saved) kept.push_back(const_cast<tensor>(&one));
    const int failed =
        closure->call(closure->closure, in.data(), in.size(), kept.data(), kept.size(), out.data(), out.size());
    TORCH_CHECK(failed == 0, "a backward pass in Rust: expected a gradient for each input, got a panic or another number");
    variable_list result(1);  // None for the closure.
    for (tensor one : out) {
      result.push_back(one ? *one : at::Tensor());
      delete one;
    }
    result.resize(result.size() + 2);  // None for outputs and saved.
    return result;
  }
};

variable_list list(const tensor* tensors, size_t n) {
  variable_list out;
  for (size_t i = 0; i < n; i++) out.push_back(*tensors[i]);
  return out;
}
}  // namespace

// The backward pass from outputs with given gradients.
extern "C" int brt_backward(tensor* outputs, tensor* gradients, size_t n) {
  return guarded([&] { torch::autograd::backward(list(outputs, n), list(gradients, n)); });
}

extern "C" int brt_grad_is_enabled() { return at::GradMode::is_enabled(); }

// Replaces `outputs` by tensors that are connected with `inputs`.
extern "C" int brt_attach(backward_call call, void (*drop)(void*), void* closure, tensor* inputs, size_t num_inputs,
                          tensor* saved, size_t num_saved, tensor* outputs, size_t num_outputs) {
  auto holder = c10::make_intrusive<Closure>(call, drop, closure, num_inputs);
  return guarded([&] {
    const auto in = list(inputs, num_inputs);
    const auto connected = Node::apply(holder, at::TensorList(in), list(outputs, num_outputs), list(saved, num_saved));
    for (size_t i = 0; i < num_outputs; i++) outputs[i] = new at::Tensor(connected[i]);
  });
}
