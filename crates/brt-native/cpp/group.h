// Processes that train together, as distributed.cpp makes them.
#pragma once
#define USE_C10D_GLOO
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>

struct Group {
  c10::intrusive_ptr<c10d::ProcessGroup> processes;
};
