// NCCL for a process group: a library of its own, which is loaded after libtorch_cuda and embedded in the program, so that one
// binary serves CPU and CUDA. It is built where the headers of CUDA and NCCL are at hand (build.rs).
#define USE_C10D_NCCL
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#include <chrono>
#include <cstdio>
#include <cstdlib>

// Lets a group sum tensors on GPUs. Returns 0, or 1 with what went wrong in `error`.
extern "C" int brt_nccl_add(c10::intrusive_ptr<c10d::ProcessGroup>* processes, int64_t timeout_ms, char* error, size_t error_len) {
  try {
    // Waiting for a sum is then an error when the time is over; else a watchdog ends the process with a page.
    setenv("TORCH_NCCL_BLOCKING_WAIT", "1", 0);
    auto& group = **processes;
    auto options = c10d::ProcessGroupNCCL::Options::create();
    options->timeout = std::chrono::milliseconds(timeout_ms);
    auto nccl = c10::make_intrusive<c10d::ProcessGroupNCCL>(group.getStore(), group.getRank(), group.getSize(), options);
    group.setBackend(c10::DeviceType::CUDA, c10d::ProcessGroup::NCCL, c10::intrusive_ptr<c10d::Backend>(nccl));
    return 0;
  } catch (const std::exception& e) {
    snprintf(error, error_len, "%s", e.what());
    return 1;
  }
}
