#include "host_info.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <thread>

#if defined(__unix__) || defined(__APPLE__)
#include <sys/utsname.h>
#endif

namespace mfs {
namespace {

namespace fs = std::filesystem;

std::string first_line(const fs::path& path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  return line.substr(0, 120);
}

// The whole number in a file; `otherwise` where there is none.
int64_t number_in(const fs::path& path, int64_t otherwise) {
  std::ifstream in(path);
  int64_t value = otherwise;
  return in >> value ? value : otherwise;
}

// Entries of `folder` that are called `prefix` and a number, by number.
std::vector<std::pair<int, fs::path>> numbered(const fs::path& folder, const std::string& prefix) {
  std::vector<std::pair<int, fs::path>> found;
  std::error_code error;
  for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
    std::string name = at->path().filename().string(), digits = name.substr(std::min(name.size(), prefix.size()));
    bool fits = name.rfind(prefix, 0) == 0 && !digits.empty() && digits.size() < 5 &&
                digits.find_first_not_of("0123456789") == std::string::npos;
    if (fits) found.emplace_back(std::stoi(digits), at->path());
  }
  std::sort(found.begin(), found.end());
  return found;
}

std::string cpu_name() {
  std::ifstream in("/proc/cpuinfo");
  std::string line, part;
  while (std::getline(in, line)) {
    size_t colon = line.find(':');
    if (colon == std::string::npos || colon + 2 > line.size()) continue;
    std::string value = line.substr(colon + 2, 100);
    if (line.rfind("model name", 0) == 0 || line.rfind("Hardware", 0) == 0) return value;
    if (line.rfind("CPU part", 0) == 0 && part.find(value) == std::string::npos) part += (part.empty() ? "part " : " ") + value;
  }
  return part;
}

}  // namespace

void write_host_info(JsonWriter& out) {
#if defined(__unix__) || defined(__APPLE__)
  utsname name{};
  if (uname(&name) == 0) {
    out.member("system", std::string(name.sysname) + " " + name.release).member("architecture", std::string(name.machine));
  }
#endif
  out.member("cpu", cpu_name()).member("cores", int(std::thread::hardware_concurrency())).member("compiler", __VERSION__);
}

Sample take_sample(double seconds, const std::string& root) {
  Sample out{seconds, {}, {}};
  for (const auto& [number, zone] : numbered(fs::path(root) / "class/thermal", "thermal_zone")) {
    const int64_t nothing = INT64_MIN;
    int64_t value = number_in(zone / "temp", nothing);
    if (value == nothing) continue;
    // The kernel's unit is a thousandth of a degree; some vendors' zones give tenths, or whole degrees.
    double degrees = std::abs(double(value)) >= 1000 ? double(value) / 1000
                     : std::abs(double(value)) > 150 ? double(value) / 10
                                                     : double(value);
    out.heat[std::to_string(number) + " " + first_line(zone / "type")] = degrees;
  }
  for (const auto& core : numbered(fs::path(root) / "devices/system/cpu", "cpu")) {
    out.khz.push_back(number_in(core.second / "cpufreq/scaling_cur_freq", 0));
  }
  return out;
}

void write_sample(JsonWriter& out, const Sample& sample) {
  out.open('{').member("seconds", sample.seconds).key("heat").open('{');
  for (const auto& [zone, degrees] : sample.heat) out.member(zone, degrees);
  out.close().key("khz").open('[');
  for (int64_t khz : sample.khz) out.value(khz);
  out.close().close();
}

}  // namespace mfs
