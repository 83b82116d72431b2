// What this machine says of itself, where it does: processor, clock, heat.  Linux and Android say it in files.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "json.h"

namespace mfs {

// Members "system", "architecture", "cpu", "cores", and what a build says of its compiler.
void write_host_info(JsonWriter& out);

struct Sample {
  double seconds;                      // since the run began
  std::map<std::string, double> heat;  // degrees Celsius by thermal zone, as "0 cpu-thermal"
  std::vector<int64_t> khz;            // current frequency by core; 0 where it is not told
};

// `root` is "/sys"; tests give another.
Sample take_sample(double seconds, const std::string& root = "/sys");
void write_sample(JsonWriter& out, const Sample& sample);

}  // namespace mfs
