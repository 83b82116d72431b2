#include "one_euro.h"

#include <algorithm>
#include <cmath>

#include "error.h"

namespace mfs {
namespace {

double eye_distance(const Landmarks& p) { return std::hypot(p[2] - p[0], p[3] - p[1]); }

// Share of the new value in an exponential filter of this cutoff.
double share(double cutoff, double step) {
  const double pi = 3.14159265358979323846;
  return 1 / (1 + 1 / (2 * pi * cutoff * step));
}

}  // namespace

Landmarks LandmarkSmoother::smooth(const Landmarks& measured, double seconds) {
  double step = seconds - seconds_, unit = eye_distance(value_), farthest = 0;
  for (size_t i = 0; i < measured.size(); i++) {
    if (!std::isfinite(measured[i])) throw bad_argument("landmarks are not finite numbers");  // they would stay for ever
    farthest = std::max(farthest, std::abs(measured[i] - value_[i]));
  }
  bool follows = !is_empty_ && step > 0 && step <= kLongestGap && unit > 0 && farthest <= kFarthestStep * unit;
  seconds_ = seconds;
  is_empty_ = false;
  if (!follows) {
    value_ = measured;
    speed_ = {};
    return value_;
  }
  for (size_t i = 0; i < measured.size(); i++) {
    double speed = (measured[i] - value_[i]) / unit / step;
    speed_[i] += share(kSpeedCutoff, step) * (speed - speed_[i]);
    value_[i] += share(kMinCutoff + kBeta * std::abs(speed_[i]), step) * (measured[i] - value_[i]);
  }
  return value_;
}

}  // namespace mfs
