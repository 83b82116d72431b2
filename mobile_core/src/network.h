// A network opened in the runtime that will run it.
#pragma once

#include <memory>
#include <string>

#include "bundle.h"
#include "paste.h"

namespace mfs {

class Network {
 public:
  virtual ~Network() = default;
  // One crop, (S, S, 3) RGB bytes, to the contract's outputs.
  virtual void run(const uint8_t* rgb, Outputs& outputs) = 0;

  std::string runtime;        // with its version
  std::string precision;      // what it computes in on this machine, as far as it tells
  bool gives_pixels = false;  // `swapped` is rounded to bytes
};

struct NetworkOptions {
  std::string backend;
  int threads = 1;
  std::string litert;  // path of libLiteRt.so; empty searches as dlopen does
};

std::unique_ptr<Network> open_network(const Bundle& bundle, const NetworkOptions& options);
std::unique_ptr<Network> open_ncnn(const Bundle& bundle, int threads);
std::unique_ptr<Network> open_litert(const Bundle& bundle, int threads, const std::string& library);

}  // namespace mfs
