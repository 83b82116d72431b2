#include "ncnn_net.h"

#include <cpu.h>
#include <datareader.h>

#include <cstdlib>
#include <sstream>

#include "error.h"

namespace mfs {

NcnnNet::NcnnNet(const std::vector<uint8_t>& param, std::vector<uint8_t> bin, int threads, const std::string& name)
    : param_(param.begin(), param.end()), bin_(std::move(bin)) {
  net_.opt.num_threads = threads;
  const unsigned char* at = param.data();
  ncnn::DataReaderFromMemory text(at, param.size());
  if (net_.load_param(text) != 0) throw bad_bundle("ncnn cannot read the graph of " + name);
  at = bin_.data();
  ncnn::DataReaderFromMemory weights(at, bin_.size());
  if (net_.load_model(weights) != 0) throw bad_bundle("ncnn cannot read the weights of " + name);
  if (at != bin_.data() + bin_.size()) throw bad_bundle(name + " has weights that its graph does not ask for");
}

bool NcnnNet::has_blob(const std::string& name) const {
  for (const ncnn::Blob& blob : net_.blobs()) {
    if (blob.name == name) return true;
  }
  return false;
}

ncnn::Mat NcnnNet::extract(ncnn::Extractor& from, const std::string& blob) {
  ncnn::Mat out;
  if (from.extract(blob.c_str(), out) != 0 || out.empty()) throw failed("ncnn failed to compute " + shown(blob));
  if (out.elemsize != 4 || out.elempack != 1) throw failed("ncnn gave " + shown(blob) + " in an unknown form");
  return out;
}

void NcnnNet::input_size(int& width, int& height) const {
  width = height = 0;
  std::istringstream lines(param_);
  for (std::string line; std::getline(lines, line);) {
    if (line.rfind("Input ", 0) != 0) continue;
    std::istringstream words(line);
    for (std::string word; words >> word;) {
      if (word.size() > 7) continue;
      if (word.rfind("0=", 0) == 0) width = std::atoi(word.c_str() + 2);
      if (word.rfind("1=", 0) == 0) height = std::atoi(word.c_str() + 2);
    }
    return;
  }
}

std::string ncnn_runtime() { return std::string("ncnn ") + NCNN_VERSION_STRING + " (CPU)"; }

std::string ncnn_precision() { return ncnn::cpu_support_arm_asimdhp() != 0 ? "float16 where the graph allows it" : "float32"; }

}  // namespace mfs
