#include "network.h"

#include "error.h"

namespace mfs {

std::unique_ptr<Network> open_network(const Bundle& bundle, const NetworkOptions& options) {
  if (options.threads < 1 || options.threads > 16) {
    throw bad_argument("threads is " + std::to_string(options.threads) + ", must be from 1 to 16");
  }
  if (options.backend == "ncnn") return open_ncnn(bundle, options.threads);
  if (options.backend == "tflite") return open_litert(bundle, options.threads, options.litert);
  throw unsupported("this core runs ncnn and tflite artifacts, not " + shown(options.backend));
}

}  // namespace mfs
