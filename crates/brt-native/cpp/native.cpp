// What tch does not expose of libtorch. Every function returns 0, or 1 with brt_last_error() set.
#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <ATen/native/TensorIterator.h>
#include <torch/version.h>
#include <string>
#include <vector>
#include "guarded.h"

typedef at::Tensor* tensor;

thread_local std::string brt_error;

extern "C" {

const char* brt_last_error() { return brt_error.c_str(); }

// The gradients of the given parameters are dropped, not zeroed.
int brt_drop_gradients(tensor* parameters, size_t n) {
  return guarded([&] {
    for (size_t i = 0; i < n; i++) parameters[i]->mutable_grad().reset();
  });
}

// Most bytes of tensors on a CUDA device so far. It needs no CUDA library at link time.
int brt_peak_device_bytes(int device_idx, int64_t* out) {
  return guarded([&] {
    auto* allocator = dynamic_cast<c10::DeviceAllocator*>(c10::GetAllocator(at::kCUDA));
    TORCH_CHECK(allocator && allocator->initialized(), "expected memory on a CUDA device, got none");
    *out = allocator->getDeviceStats(device_idx).allocated_bytes[0].peak;
  });
}

const char* brt_torch_version() { return TORCH_VERSION; }

const char* brt_cpu_capability() {
  static const std::string name = at::get_cpu_capability();
  return name.c_str();
}

const char* brt_show_config() {
  static const std::string text = at::show_config();
  return text.c_str();
}
}
