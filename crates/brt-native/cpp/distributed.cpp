// Processes that train together, through c10d, libtorch's own distributed engine: a store on TCP and collective operations.
// Functions return 0, or 1 with brt_last_error() set.
#include "group.h"
#include <c10/util/Logging.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#include <torch/csrc/distributed/c10d/comm.hpp>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>
#include <vector>
#include "guarded.h"
#include "tensors.h"

using std::chrono::milliseconds;

namespace {
typedef c10::intrusive_ptr<c10d::Store> Store;
}  // namespace

extern "C" {

// Serves the store on this port, or connects to the one that another process serves.
int brt_store_open(const char* host, int port, int serve, int64_t timeout_ms, const char* prefix, Store** out) {
  return guarded([&] {
    // Warnings of c10d and NCCL are off unless the user wants them: a host without a name has one at each connection.
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

// The sum of a few numbers, in place, on the CPU: up a tree of processes and down again, 2 ceil(log2(n)) messages one after the other.
// Gloo's own sum goes around a ring, 2 (n - 1) messages.
int brt_sum_few(Group* group, tensor x) {
  return guarded([&] {
    auto& processes = *group->processes;
    std::vector<at::Tensor> sum{*x}, other{at::empty_like(*x)};
    const int rank = processes.getRank(), n = processes.getSize();
    for (int bit = 1; bit < n; bit *= 2) {
      if (rank & bit) {
        processes.send(sum, rank - bit, bit)->wait();
        break;
      }
      if (rank + bit >= n) continue;
      processes.recv(other, rank + bit, bit)->wait();
      x->add_(other[0]);
    }
    processes.broadcast(sum)->wait();
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
}
