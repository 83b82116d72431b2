#include "stats.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace mfs {

const char* const kStageNames[kStages] = {"detect", "align", "network", "paste", "total"};

double percentile(std::vector<double> values, double share) {
  if (values.empty()) return NAN;
  std::sort(values.begin(), values.end());
  double at = share * double(values.size() - 1);
  size_t below = size_t(at);
  size_t above = std::min(below + 1, values.size() - 1);
  return values[below] + (values[above] - values[below]) * (at - double(below));
}

void FrameStats::add(const StageTimes& ms, double seconds) {
  frames_++;
  times_.push_back(ms);
  if (times_.size() > kWindow) times_.pop_front();
  done_.push_back(seconds);
  while (done_.size() > 2 && done_.front() < seconds - kSustained) done_.pop_front();
}

double FrameStats::fps(double over) const {
  if (done_.empty()) return NAN;
  auto first = std::lower_bound(done_.begin(), done_.end(), done_.back() - over);
  double seconds = done_.back() - *first;
  return seconds > 0 ? double(done_.end() - first - 1) / seconds : NAN;
}

void FrameStats::write(JsonWriter& out) const {
  out.member("frames", int64_t(frames_)).member("fps", fps(kRecent)).member("sustained_fps", fps(kSustained));
  out.key("latency_ms").open('{');
  for (int stage = 0; stage < kStages; stage++) {
    std::vector<double> values;
    for (const StageTimes& times : times_) values.push_back(times[stage]);
    write_distribution(out, kStageNames[stage], values);
  }
  out.close();
}

void write_distribution(JsonWriter& out, const char* key, const std::vector<double>& values) {
  out.key(key).open('{');
  for (auto [name, share] :
       {std::pair("p50", 0.5), std::pair("p90", 0.9), std::pair("p99", 0.99), std::pair("min", 0.0), std::pair("max", 1.0)}) {
    out.member(name, percentile(values, share));
  }
  double mean = values.empty() ? NAN : std::accumulate(values.begin(), values.end(), 0.0) / double(values.size());
  out.member("mean", mean).close();
}

}  // namespace mfs
