// Sums of gradients over processes, through c10d, while the backward pass goes on. Functions return 0, or 1 with
// brt_last_error() set.
#include "group.h"
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/utils/lambda_post_hook.h>
#include <torch/csrc/autograd/variable.h>
#include <torch/csrc/distributed/c10d/reducer.hpp>
#include <algorithm>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>
#include "guarded.h"
#include "tensors.h"

namespace {
// Sums gradients over all processes while the backward pass goes on: the sum of a bucket starts when its last gradient is
// there. Buckets start in their order, the same on all processes. An error is kept for wait(), so that the backward pass never
// fails.
//
// c10d's own reducer would do but for parameters that get gradients several times in a step, because their rows come in
// parts and their segments are computed again: it takes each for the last one.
class Reducer {
 public:
  Reducer(c10::intrusive_ptr<c10d::ProcessGroup> processes, std::vector<at::Tensor> parameters, size_t bucket_bytes)
      : processes(std::move(processes)), parameters(std::move(parameters)), gradients(this->parameters.size()),
        has_gradient(this->parameters.size(), false), num_expected(this->parameters.size(), 0),
        num_seen(this->parameters.size(), 0) {
    at::NoGradGuard no_grad;
    // The first bucket is small, so that the network has something to do soon. Gradients come in reverse order.
    const std::vector<size_t> limits{std::min<size_t>(bucket_bytes, 1 << 20), bucket_bytes};
    std::vector<at::Tensor> reversed(this->parameters.rbegin(), this->parameters.rend());
    const auto assigned = std::get<0>(c10d::compute_bucket_assignment_by_size(reversed, limits));
    for (const auto& indices : assigned) {
      Bucket bucket;
      int64_t size = 0, offset = 0;
      for (size_t i : indices) size += reversed[i].numel();
      bucket.sum = at::zeros({size}, reversed[indices[0]].options().requires_grad(false));
      for (size_t i : indices) {
        const size_t idx = this->parameters.size() - 1 - i;
        const auto& p = this->parameters[idx];
        gradients[idx] = bucket.sum.narrow(0, offset, p.numel()).view(p.sizes());
        offset += p.numel();
        bucket.members.push_back(idx);
      }
      buckets.push_back(std::move(bucket));
    }
    for (size_t idx = 0; idx < this->parameters.size(); idx++) {
      auto node = torch::autograd::impl::grad_accumulator(this->parameters[idx]);
      const auto key = node->add_post_hook(std::make_unique<torch::autograd::utils::LambdaPostHook>(
          [this, idx](const torch::autograd::variable_list& outputs, const torch::autograd::variable_list&) {
            added(idx);
            return outputs;
          },
          [](torch::autograd::CompiledNodeArgs&) {}));
      hooks.emplace_back(key, std::move(node));
    }
  }

  ~Reducer() {
    for (auto& [key, node] : hooks) node->del_post_hook(key);
  }

  // Makes all gradients zero. They stay where they are, and the backward pass adds to them there.
  void clear() {
    std::lock_guard<std::mutex> lock(mutex);
    at::NoGradGuard no_grad;
    for (auto& bucket : buckets) bucket.sum.zero_();
    for (size_t idx = 0; idx < parameters.size(); idx++)
      parameters[idx].mutable_grad() = is_learning || has_gradient[idx] ? gradients[idx] : at::Tensor();
  }

  void begin() {
    std::lock_guard<std::mutex> lock(mutex);
    std::fill(num_seen.begin(), num_seen.end(), 0);
    next = 0;
    is_last_part = true;
  }

  int64_t wait() {
    std::lock_guard<std::mutex> lock(mutex);
    is_last_part = false;
    if (is_learning) learn();
    if (num_seen != num_expected) fail("expected each parameter to get as many gradients as in the first step, got fewer");
    for (; next < buckets.size(); next++) start(buckets[next]);
    auto works = std::move(started);
    started.clear();
    TORCH_CHECK(error.empty(), error);
    for (auto& work : works) work->wait();
    return std::exchange(num_bytes, 0);
  }

 private:
  struct Bucket {
    at::Tensor sum;  // The gradients are views of it.
    std::vector<size_t> members;
  };

  const c10::intrusive_ptr<c10d::ProcessGroup> processes;
  const std::vector<at::Tensor> parameters;
  std::vector<at::Tensor> gradients;
  std::vector<Bucket> buckets;
  std::vector<std::pair<uintptr_t, std::shared_ptr<torch::autograd::Node>>> hooks;
  std::mutex mutex;
  std::vector<bool> has_gradient;
  std::vector<int> num_expected, num_seen;  // In the last backward pass of a step.
  std::vector<c10::intrusive_ptr<c10d::Work>> started;
  std::string error;
  size_t next = 0;
  int64_t num_bytes = 0;
  bool is_last_part = false, is_learning = true;

  // The first step tells which parameters have gradients, and how many its last backward pass adds: the same on all processes.
  void learn() {
    is_learning = false;
    num_expected = num_seen;
    auto seen = at::empty({2, static_cast<int64_t>(parameters.size())}, at::kLong);
    for (size_t idx = 0; idx < parameters.size(); idx++) {
      seen[0][idx] = has_gradient[idx] ? num_seen[idx] + 1 : 0;
      if (!has_gradient[idx]) parameters[idx].mutable_grad().reset();
    }
    seen[1] = -seen[0];
    std::vector<at::Tensor> most{seen.clone()};
    c10d::AllreduceOptions options;
    options.reduceOp = c10d::ReduceOp::MAX;
    processes->allreduce(most, options)->wait();
    if (!most[0].equal(seen)) fail("expected gradients of the same parameters on all processes, as many on each, got others");
  }

  // A gradient was added to that of a parameter.
  void added(size_t idx) {
    std::lock_guard<std::mutex> lock(mutex);
    if (is_learning) has_gradient[idx] = true;
    if (!has_gradient[idx]) return fail("expected gradients of the same parameters as in the first step, got one of another");
    if (!parameters[idx].mutable_grad().is_same(gradients[idx])) return fail("expected gradients to be cleared before a step");
    if (!is_last_part) return;
    if (++num_seen[idx] > num_expected[idx] && !is_learning)
      fail("expected each parameter to get as many gradients as in the first step, got more");
    const auto is_whole = [this](size_t i) { return num_seen[i] >= num_expected[i]; };
    while (!is_learning && next < buckets.size() &&
           std::all_of(buckets[next].members.begin(), buckets[next].members.end(), is_whole))
      start(buckets[next++]);
  }

  // Keeps the first error.
  void fail(const char* what) {
    if (error.empty()) error = what;
  }

  void start(Bucket& bucket) {
    if (!error.empty()) return;
    try {
      std::vector<at::Tensor> sums{bucket.sum};
      started.push_back(processes->allreduce(sums));
      num_bytes += static_cast<int64_t>(bucket.sum.nbytes());
    } catch (const std::exception& e) {
      fail(e.what());
    }
  }
};
}  // namespace

extern "C" {

// Sums the gradients of these parameters over all processes, in buckets of about so many bytes, while the backward pass
// goes on.
int brt_reducer_new(Group* group, tensor* parameters, size_t n, int64_t bucket_bytes, Reducer** out) {
  return guarded([&] {
    const auto p = list(parameters, n);
    c10d::verify_params_across_processes(group->processes, p, {});
    *out = new Reducer(group->processes, p, static_cast<size_t>(bucket_bytes));
  });
}

// Makes the gradients zero, before the first backward pass of a step.
int brt_reducer_clear(Reducer* reducer) {
  return guarded([&] { reducer->clear(); });
}

// The backward pass that comes is the last one of the step: its gradients are summed, with those that are there.
int brt_reducer_begin(Reducer* reducer) {
  return guarded([&] { reducer->begin(); });
}

// Waits for the sums; returns the bytes that were summed.
int brt_reducer_wait(Reducer* reducer, int64_t* num_bytes) {
  return guarded([&] { *num_bytes = reducer->wait(); });
}

void brt_reducer_free(Reducer* reducer) {
  guarded([&] { delete reducer; });
}
}
