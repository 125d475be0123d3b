// The kernels as C functions that a model compiled by AOTInductor calls and, linked with this file, holds: a program needs the model and
// PyTorch then, and nothing of ours. For what they are told by see plan_text.h; export/with_kernels.py declares them to the compiler.
#include <torch/csrc/inductor/aoti_torch/utils.h>
#include <torch/headeronly/version.h>

#include "plan_text.h"

namespace {

using torch::aot_inductor::new_tensor_handle;
using torch::aot_inductor::resolve_tensor_dispatch_flags;

// The kernels use PyTorch's C++ interface, which changes between versions; what a compiler makes of a model alone may not.
void check_version() {
  const uint64_t here = aoti_torch_abi_version();
  TORCH_CHECK(here >> 40 == TORCH_ABI_VERSION >> 40, "this model holds kanmlip's kernels, compiled for PyTorch ", TORCH_VERSION,
              ", and runs with PyTorch ", here >> 56, ".", here >> 48 & 0xff, ".", here >> 40 & 0xff,
              "; export it with that one, or with kanmlip-export --no-kernels");
}

}  // namespace

extern "C" {

// y(x/scale) [N, out].
AOTITorchError aoti_torch_cpu_kan(AtenTensorHandle x, AtenTensorHandle weight, AtenTensorHandle* gain, AtenTensorHandle* inverse_scale,
                                  AtenTensorHandle* shape, const char* functions, AtenTensorHandle* y) {
  AOTI_TORCH_CONVERT_EXCEPTION_TO_ERROR_CODE({
    check_version();
    *y = new_tensor_handle(kanmlip::kan(resolve_tensor_dispatch_flags(x), resolve_tensor_dispatch_flags(weight), resolve_tensor_dispatch_flags(gain),
                                        resolve_tensor_dispatch_flags(inverse_scale), resolve_tensor_dispatch_flags(shape), functions));
  });
}

// What a gradient g [N, out] by y is by x, [N, in].
AOTITorchError aoti_torch_cpu_kan_slope(AtenTensorHandle x, AtenTensorHandle g, AtenTensorHandle weight, AtenTensorHandle* gain,
                                        AtenTensorHandle* inverse_scale, AtenTensorHandle* shape, const char* functions, AtenTensorHandle* slope) {
  AOTI_TORCH_CONVERT_EXCEPTION_TO_ERROR_CODE({
    check_version();
    *slope = new_tensor_handle(kanmlip::kan_slope(resolve_tensor_dispatch_flags(x), resolve_tensor_dispatch_flags(g), resolve_tensor_dispatch_flags(weight),
                                                  resolve_tensor_dispatch_flags(gain), resolve_tensor_dispatch_flags(inverse_scale),
                                                  resolve_tensor_dispatch_flags(shape), functions));
  });
}

}  // extern "C"
