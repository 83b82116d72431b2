// ncnn's two files, loaded from checked bytes.
#pragma once

#include <net.h>

#include <string>
#include <vector>

namespace mfs {

// A net and the bytes that its weights point into.
class NcnnNet {
 public:
  // Throws bad_bundle where ncnn refuses them; `name` is what messages call them.
  NcnnNet(const std::vector<uint8_t>& param, std::vector<uint8_t> bin, int threads, const std::string& name);

  ncnn::Extractor extractor() const { return net_.create_extractor(); }
  bool has_blob(const std::string& name) const;
  // One blob as float32, not packed.  Throws failed.
  static ncnn::Mat extract(ncnn::Extractor& from, const std::string& blob);
  // The sides of the input layer, 0 where the graph leaves them open.
  void input_size(int& width, int& height) const;

 private:
  std::string param_;
  std::vector<uint8_t> bin_;
  ncnn::Net net_;
};

std::string ncnn_runtime();    // with its version
std::string ncnn_precision();  // of fp16-capable layers on this machine

}  // namespace mfs
