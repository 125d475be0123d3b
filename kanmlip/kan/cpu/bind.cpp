// The kernels as operators of torch; see backend_cpu.py, which calls them.
#include <torch/library.h>

#include "contract.h"
#include "plan_text.h"
#include "stack.h"

namespace kanmlip {
namespace {

int64_t add_plan(int64_t family, std::vector<double> numbers, int64_t size, bool base, bool zero) {
  Plan plan{family, std::move(numbers), size, base, zero};
  check_plan(plan);
  return Plans::all().add(std::move(plan));
}

}  // namespace
}  // namespace kanmlip

TORCH_LIBRARY_FRAGMENT(kanmlip_cpu, m) {
  m.def("plan(int family, float[] numbers, int size, bool base, bool zero) -> int", kanmlip::add_plan);
  m.def("output(Tensor x, Tensor? v, Tensor weight, Tensor? shape, int plan, int order, Tensor? scale=None) -> Tensor");
  m.def("weight(Tensor x, Tensor? v, Tensor g, Tensor? shape, int plan, int order) -> Tensor");
  m.def("input(Tensor x, Tensor g, Tensor weight, Tensor? shape, int plan, int order, Tensor? scale=None) -> Tensor");
  m.def("gradients(Tensor x, Tensor? v, Tensor g, Tensor weight, Tensor? shape, int plan, int order, bool output) -> (Tensor, Tensor, Tensor)");
  m.def("kan(Tensor x, Tensor weight, Tensor? gain, Tensor? inverse_scale, Tensor? shape, str functions) -> Tensor");
  m.def("kan_slope(Tensor x, Tensor g, Tensor weight, Tensor? gain, Tensor? inverse_scale, Tensor? shape, str functions) -> Tensor");
  m.def("layer(Tensor x, Tensor weight, Tensor? gain, Tensor? scale, int plan) -> Tensor");
  m.def("stack(Tensor x, Tensor[] weights, Tensor[] gains, Tensor[] scales, int[] plans) -> Tensor");
}

TORCH_LIBRARY_IMPL(kanmlip_cpu, CPU, m) {
  m.impl("output", kanmlip::output);
  m.impl("weight", kanmlip::weight);
  m.impl("input", kanmlip::input);
  m.impl("kan", kanmlip::kan);
  m.impl("kan_slope", kanmlip::kan_slope);
  m.impl("gradients", kanmlip::gradients);
  m.impl("layer", kanmlip::layer);
  m.impl("stack", kanmlip::stack);
}

TORCH_LIBRARY_IMPL(kanmlip_cpu, AutogradCPU, m) {
  m.impl("layer", kanmlip::layer);
  m.impl("stack", kanmlip::stack);
}
