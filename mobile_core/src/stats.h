// Figures of the frames that went by.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <vector>

#include "json.h"

namespace mfs {

enum Stage { kDetect, kAlign, kNetwork, kPaste, kTotal, kStages };
extern const char* const kStageNames[kStages];
using StageTimes = std::array<double, kStages>;  // ms

// The value below which `share` of the values lie, between neighbours by linear interpolation; NaN of none.
double percentile(std::vector<double> values, double share);

class FrameStats {
 public:
  static constexpr size_t kWindow = 600;    // frames that percentiles are of
  static constexpr double kRecent = 2;      // seconds that `fps` is of
  static constexpr double kSustained = 60;  // seconds that `sustained_fps` is of

  // `seconds`: when the frame was done, on a steady clock.
  void add(const StageTimes& ms, double seconds);
  uint64_t frames() const { return frames_; }
  double fps(double over) const;      // of the last `over` seconds; NaN before the second frame
  void write(JsonWriter& out) const;  // members "frames", "fps", "sustained_fps", "latency_ms"

 private:
  uint64_t frames_ = 0;
  std::deque<StageTimes> times_;
  std::deque<double> done_;
};

// Member `key` with p50, p90, p99, mean, min and max of some values.
void write_distribution(JsonWriter& out, const char* key, const std::vector<double>& values);

}  // namespace mfs
