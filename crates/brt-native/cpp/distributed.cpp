// Processes that train together, through c10d, libtorch's own distributed engine: a store on TCP, collective operations, and
// sums of gradients while the backward pass goes on. Functions return 0, or 1 with brt_last_error() set.
#define USE_C10D_GLOO
#include <ATen/ATen.h>
#include <c10/util/Logging.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/utils/lambda_post_hook.h>
#include <torch/csrc/autograd/variable.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#include <torch/csrc/distributed/c10d/reducer.hpp>
#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>
#include "guarded.h"

typedef at::Tensor* tensor;
using std::chrono::milliseconds;

namespace {
typedef c10::intrusive_ptr<c10d::Store> Store;

struct Group {
  c10::intrusive_ptr<c10d::ProcessGroup> processes;
};

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
        num_expected(this->parameters.size(), 0), num_seen(this->parameters.size(), 0) {
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
      if (is_learning || num_expected[idx] > 0) parameters[idx].mutable_grad() = gradients[idx];
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
    // In the first step it learns how often each parameter gets a gradient.
    if (is_learning) learn();
    if (num_seen != num_expected && error.empty())
      error = "expected each parameter to get as many gradients as in the first step, got fewer";
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
  std::vector<int> num_expected, num_seen;
  std::vector<c10::intrusive_ptr<c10d::Work>> started;
  std::string error;
  size_t next = 0;
  int64_t num_bytes = 0;
  bool is_last_part = false, is_learning = true;

  // Parameters that got no gradient in the first step never do, and have none.
  void learn() {
    num_expected = num_seen;
    is_learning = false;
    for (size_t idx = 0; idx < parameters.size(); idx++)
      if (num_expected[idx] == 0) parameters[idx].mutable_grad().reset();
  }

  // A gradient was added to that of a parameter.
  void added(size_t idx) {
    std::lock_guard<std::mutex> lock(mutex);
    if (!is_last_part) return;
    if (++num_seen[idx] > num_expected[idx] && !is_learning && error.empty())
      error = "expected each parameter to get as many gradients as in the first step, got more";
    const auto is_whole = [this](size_t i) { return num_seen[i] >= num_expected[i]; };
    while (!is_learning && next < buckets.size() &&
           std::all_of(buckets[next].members.begin(), buckets[next].members.end(), is_whole))
      start(buckets[next++]);
  }

  void start(Bucket& bucket) {
    if (!error.empty()) return;
    try {
      std::vector<at::Tensor> sums{bucket.sum};
      started.push_back(processes->allreduce(sums));
      num_bytes += static_cast<int64_t>(bucket.sum.nbytes());
    } catch (const std::exception& e) {
      error = e.what();
    }
  }
};

std::vector<at::Tensor> list(const tensor* tensors, size_t n) {
  std::vector<at::Tensor> out;
  for (size_t i = 0; i < n; i++) out.push_back(*tensors[i]);
  return out;
}
}  // namespace

extern "C" {

// Serves the store on this port, or connects to the one that another process serves.
int brt_store_open(const char* host, int port, int serve, int64_t timeout_ms, const char* prefix, Store** out) {
  return guarded([&] {
    // A host without a name is no reason for a warning at each connection.
    if (std::getenv("TORCH_CPP_LOG_LEVEL") == nullptr) FLAGS_caffe2_log_level = c10::GLOG_ERROR;
    c10d::TCPStoreOptions options;
    options.port = static_cast<uint16_t>(port);
    options.isServer = serve;
    options.waitWorkers = false;
    options.timeout = milliseconds(timeout_ms);
    auto store = c10::make_intrusive<c10d::TCPStore>(std::string(host), options);
    *out = new Store(c10::make_intrusive<c10d::PrefixStore>(std::string(prefix), store));
  });
}

int brt_store_set(Store* store, const char* key, const uint8_t* bytes, size_t n) {
  return guarded([&] { (*store)->set(key, std::vector<uint8_t>(bytes, bytes + n)); });
}

// The value of a key that is there, as a vector of bytes.
int brt_store_get(Store* store, const char* key, tensor* out) {
  return guarded([&] {
    const auto bytes = (*store)->get(key);
    *out = new at::Tensor(at::empty({static_cast<int64_t>(bytes.size())}, at::kByte));
    if (!bytes.empty()) std::memcpy((*out)->data_ptr(), bytes.data(), bytes.size());
  });
}

int brt_store_has(Store* store, const char* key, int* out) {
  return guarded([&] { *out = (*store)->check({key}); });
}

int brt_store_add(Store* store, const char* key, int64_t value, int64_t* out) {
  return guarded([&] { *out = (*store)->add(key, value); });
}

void brt_store_free(Store* store) { delete store; }

// Connects all processes; others reach this one at `address`, or at the network interface of that name.
int brt_group_new(Store* store, const char* prefix, int rank, int size, int64_t timeout_ms, const char* address,
                  int is_interface, Group** out) {
  return guarded([&] {
    auto own = c10::make_intrusive<c10d::PrefixStore>(std::string(prefix), *store);
    auto options = c10d::ProcessGroupGloo::Options::create(milliseconds(timeout_ms));
    options->devices.push_back(is_interface ? c10d::ProcessGroupGloo::createDeviceForInterface(address)
                                            : c10d::ProcessGroupGloo::createDeviceForHostname(address));
    auto gloo = c10::make_intrusive<c10d::ProcessGroupGloo>(own, rank, size, options);
    auto processes = c10::make_intrusive<c10d::ProcessGroup>(own, rank, size);
    processes->setBackend(c10::DeviceType::CPU, c10d::ProcessGroup::GLOO, c10::intrusive_ptr<c10d::Backend>(gloo));
    processes->setDefaultBackend(c10d::ProcessGroup::GLOO);
    processes->setGroupName("brt");
    *out = new Group{std::move(processes)};
  });
}

void brt_group_free(Group* group) { delete group; }

// The group as nccl.cpp takes it.
void* brt_group_processes(Group* group) { return &group->processes; }

// The sum, in place.
int brt_all_reduce(Group* group, tensor x) {
  return guarded([&] {
    std::vector<at::Tensor> tensors{*x};
    group->processes->allreduce(tensors)->wait();
  });
}

// The sum of a few numbers, in place, on the CPU. Gloo's own sum takes 2 (n - 1) messages one after the other, around a ring.
// Here rank 0 gathers the numbers of all at once, and their sums go down a tree of log2(n) messages.
int brt_sum_few(Group* group, tensor x) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    auto& processes = *group->processes;
    std::vector<at::Tensor> own{*x};
    std::vector<std::vector<at::Tensor>> all;
    const auto rows = at::empty({processes.getSize(), x->numel()}, x->options());
    if (processes.getRank() == 0) all.push_back(rows.unbind(0));
    processes.gather(all, own)->wait();
    if (processes.getRank() == 0) at::sum_out(own[0], rows, 0);
    processes.broadcast(own)->wait();
  });
}

int brt_broadcast(Group* group, tensor* tensors, size_t n, int root) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    c10d::broadcast_coalesced(group->processes, list(tensors, n), 25 << 20, root);
  });
}

// `out`: as many tensors as there are processes, all of the shape of `x`.
int brt_all_gather(Group* group, tensor x, tensor* out, size_t n) {
  return guarded([&] {
    std::vector<std::vector<at::Tensor>> outputs{list(out, n)};
    std::vector<at::Tensor> inputs{*x};
    group->processes->allgather(outputs, inputs)->wait();
  });
}

int brt_barrier(Group* group) {
  return guarded([&] { group->processes->barrier()->wait(); });
}

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
