// Which functions a layer has, as a number that operators can carry.
#pragma once

#include <ATen/core/Tensor.h>

#include <deque>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <tuple>
#include <vector>

namespace kanmlip {

using at::Tensor;
using Maybe = std::optional<Tensor>;
using Gradients = std::tuple<Tensor, Tensor, Tensor>;

enum Family : int64_t { kEvenGaussians, kGaussians, kWaves, kChebyshev, kLocal };

struct Plan {
  int64_t family;
  std::vector<double> numbers;  // of the family
  int64_t size;                 // functions
  bool base, zero;              // with SiLU; less the functions' values at zero
};

// Plans live as long as the process: there are as many as kinds of layers.
struct Plans {
  std::deque<Plan> own;
  std::shared_mutex mutex;

  static Plans& all() {
    static Plans plans;
    return plans;
  }
  int64_t add(Plan plan) {
    const std::unique_lock lock(mutex);
    own.push_back(std::move(plan));
    return int64_t(own.size()) - 1;
  }
  const Plan& get(int64_t k) {
    const std::shared_lock lock(mutex);
    TORCH_CHECK(k >= 0 && k < int64_t(own.size()), "no plan ", k, " in this process");
    return own[k];
  }
};

}  // namespace kanmlip
