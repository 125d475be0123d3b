// Functions as text, which a file can carry that runs without Python; see native.py, which writes it.
#pragma once

#include <charconv>
#include <sstream>
#include <string>
#include <string_view>
#include <unordered_map>

#include "contract.h"

namespace kanmlip {

// A number as Python prints it, whatever the locale.
inline double read_number(const std::string& word) {
  double value = 0;
  const char* const last = word.data() + word.size();
  const auto [end, error] = std::from_chars(word.data(), last, value);
  TORCH_CHECK_VALUE(error == std::errc() && end == last, "'", word, "' is no number");
  return value;
}

// Kernels read as many numbers as the family says, and have room for so many.
inline void check_plan(const Plan& plan) {
  const auto& numbers = plan.numbers;
  constexpr size_t needed[] = {2, 0, 1, 1, 4};  // by family
  TORCH_CHECK_VALUE(plan.family >= 0 && plan.family <= kLocal && plan.size >= 1, "no family ", plan.family, " of ", plan.size, " functions");
  TORCH_CHECK_VALUE(numbers.size() >= needed[plan.family], "functions of family ", plan.family, " need ", needed[plan.family], " numbers");
  if (plan.family != kLocal) return;
  const double pieces = numbers[2], terms = numbers[3];
  TORCH_CHECK_VALUE(pieces >= 1 && pieces <= kMaxPieces && terms >= 1 && terms <= kMaxTerms, "at most ", kMaxPieces, " pieces of ", kMaxTerms, " terms");
  TORCH_CHECK_VALUE(numbers.size() == 4 + size_t(pieces) * size_t(terms), "as many coefficients as pieces have terms");
}

// Family, size, base, zero and the numbers of the family, apart by spaces.
inline Plan read_plan(const std::string& text) {
  std::istringstream words(text);
  std::vector<double> all;
  for (std::string word; words >> word;) all.push_back(read_number(word));
  TORCH_CHECK_VALUE(all.size() >= 4, "functions '", text, "' lack family, size, base or zero");
  Plan plan{int64_t(all[0]), std::vector<double>(all.begin() + 4, all.end()), int64_t(all[1]), all[2] != 0, all[3] != 0};
  check_plan(plan);
  return plan;
}

// The number of a plan; every text is read once.
inline int64_t plan_of(const std::string& text) {
  static std::unordered_map<std::string, int64_t> known;
  static std::shared_mutex mutex;
  {
    const std::shared_lock lock(mutex);
    if (const auto found = known.find(text); found != known.end()) return found->second;
  }
  const std::unique_lock lock(mutex);
  const auto found = known.find(text);
  return found != known.end() ? found->second : known[text] = Plans::all().add(read_plan(text));
}

// y(x/scale) [N, out] of functions as text, by weights times a gain [columns, 1], a product that nobody keeps; for the rest see output.
inline Tensor kan(const Tensor& x, const Tensor& weight, const Maybe& gain, const Maybe& inverse_scale, const Maybe& shape, std::string_view text) {
  return output(x, std::nullopt, times(weight, gain), shape, plan_of(std::string(text)), 0, inverse_scale);
}

// What a gradient g [N, out] by y is by x, [N, in].
inline Tensor kan_slope(const Tensor& x, const Tensor& g, const Tensor& weight, const Maybe& gain, const Maybe& inverse_scale, const Maybe& shape, std::string_view text) {
  return input(x, g, times(weight, gain), shape, plan_of(std::string(text)), 1, inverse_scale);
}

}  // namespace kanmlip
