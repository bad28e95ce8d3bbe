// RMS norm over the last axis, y = x / sqrt(mean(x^2) + eps) * weight, as one autograd node.
//
// Composed of tensor operations, each of which reads or writes the whole tensor, it takes several times as long, forward
// and backward (example `norm` prints both). Contiguous float32 on the CPU runs the loops below; anything else (another
// device or kind) is composed of tensor operations. The loops have no second derivative, and say so.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#define FOR_EACH_CPU __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

FOR_EACH_CPU static void forward_rows(const float* x, const float* weight, float* y, float* scale, int64_t begin,
                                      int64_t end, int64_t width, float eps) {
  for (int64_t i = begin; i < end; i++) {
    const float* row = x + i * width;
    float sum = 0;
    for (int64_t j = 0; j < width; j++) sum += row[j] * row[j];
    const float s = 1.f / __builtin_sqrtf(sum / width + eps);
    scale[i] = s;
    for (int64_t j = 0; j < width; j++) y[i * width + j] = row[j] * s * weight[j];
  }
}

FOR_EACH_CPU static void backward_rows(const float* x, const float* weight, const float* dy, const float* scale,
                                       float* dx, float* dweight, int64_t begin, int64_t end, int64_t width) {
  for (int64_t i = begin; i < end; i++) {
    const float *row = x + i * width, *g = dy + i * width;
    const float s = scale[i];
    float dot = 0;
    for (int64_t j = 0; j < width; j++) {
      dot += g[j] * weight[j] * row[j];
      dweight[j] += g[j] * row[j] * s;
    }
    const float c = dot * s * s * s / width;
    for (int64_t j = 0; j < width; j++) dx[i * width + j] = g[j] * weight[j] * s - row[j] * c;
  }
}

namespace {
// Rows per parallel task; fixed, so that the sums of the weight's gradient do not depend on the number of threads.
int64_t rows_per_task(int64_t width) { return std::max<int64_t>(1, 65536 / width); }

struct RmsNorm : torch::autograd::Function<RmsNorm> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& input, const at::Tensor& weight, double eps) {
    const auto x = input.contiguous();
    const int64_t width = x.size(-1), rows = x.numel() / width;
    auto y = at::empty_like(x), scale = at::empty({rows}, x.options());
    const float *px = x.const_data_ptr<float>(), *pw = weight.const_data_ptr<float>();
    float *py = y.mutable_data_ptr<float>(), *ps = scale.mutable_data_ptr<float>();
    at::parallel_for(0, rows, rows_per_task(width), [&](int64_t begin, int64_t end) {
      forward_rows(px, pw, py, ps, begin, end, width, static_cast<float>(eps));
    });
    ctx->save_for_backward({x, weight, scale});
    return y;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    TORCH_CHECK(!at::GradMode::is_enabled(), "rms_norm: expected a first derivative, got a second one");
    const auto saved = ctx->get_saved_variables();
    const auto x = saved[0], weight = saved[1], scale = saved[2], dy = grads[0].contiguous();
    const int64_t width = x.size(-1), rows = x.numel() / width, task = rows_per_task(width);
    const int64_t tasks = (rows + task - 1) / task;
    auto dx = at::empty_like(x), dweights = at::zeros({tasks, width}, weight.options());
    const float *px = x.const_data_ptr<float>(), *pw = weight.const_data_ptr<float>();
    const float *pg = dy.const_data_ptr<float>(), *ps = scale.const_data_ptr<float>();
    float *pdx = dx.mutable_data_ptr<float>(), *pdw = dweights.mutable_data_ptr<float>();
    at::parallel_for(0, tasks, 1, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; t++)
        backward_rows(px, pw, pg, ps, pdx, pdw + t * width, t * task, std::min(rows, (t + 1) * task), width);
    });
    return {dx, dweights.sum(0), at::Tensor()};
  }
};
}  // namespace

at::Tensor brt_rms_norm_autograd(const at::Tensor& x, const at::Tensor& weight, double eps) {
  if (x.is_cpu() && weight.is_cpu() && x.scalar_type() == at::kFloat && weight.scalar_type() == at::kFloat && x.numel() > 0)
    return RmsNorm::apply(x, weight.contiguous(), eps);
  // Statistics in float32 at least, as the official code takes them.
  const auto wide = x.scalar_type() == at::kDouble ? x : x.to(at::kFloat);
  const auto scale = (wide.square().mean(-1, true) + eps).rsqrt();
  return (wide * scale * weight).to(x.scalar_type());
}
