// Tensors as this crate's functions take them.
#pragma once
#include <ATen/ATen.h>
#include <vector>

typedef at::Tensor* tensor;

inline std::vector<at::Tensor> list(const tensor* tensors, size_t n) {
  std::vector<at::Tensor> out;
  out.reserve(n);
  for (size_t i = 0; i < n; i++) out.push_back(*tensors[i]);
  return out;
}
