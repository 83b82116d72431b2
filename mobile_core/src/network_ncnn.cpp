#include <cstring>

#include "error.h"
#include "ncnn_net.h"
#include "network.h"

namespace mfs {
namespace {

// ncnn's default options, as the exporter's parity is measured with: float16 where the processor has it and the graph allows it.
class NcnnNetwork : public Network {
 public:
  NcnnNetwork(const Bundle& bundle, const Artifact& artifact, int threads)
      : contract_(bundle.contract),
        net_(bundle.load(artifact.files[0]), bundle.load(artifact.files[1]), threads, artifact.files[0]) {
    runtime = ncnn_runtime();
    precision = ncnn_precision();
    for (const std::string& name :
         {contract_.input.name, contract_.swapped.name, contract_.has_mask() ? contract_.mask[0].name : contract_.swapped.name}) {
      if (!net_.has_blob(name)) throw bad_bundle(artifact.files[0] + " has no blob " + shown(name));
    }
  }

  void run(const uint8_t* rgb, Outputs& outputs) override {
    int size = contract_.size;
    ncnn::Mat input(size, size, 3);
    if (input.empty()) throw failed("no memory for a crop");
    for (int c = 0; c < 3; c++) {
      float* plane = input.channel(c);
      for (int i = 0; i < size * size; i++) plane[i] = float(rgb[3 * i + c]) / 255.0f;
    }
    ncnn::Extractor extractor = net_.extractor();
    if (extractor.input(contract_.input.name.c_str(), input) != 0) throw failed("ncnn refused the input");
    take(extractor, contract_.swapped, outputs.swapped);
    outputs.mask.clear();
    if (contract_.has_mask()) take(extractor, contract_.mask[0], outputs.mask);
  }

 private:
  void take(ncnn::Extractor& extractor, const TensorSpec& spec, std::vector<float>& out) {
    ncnn::Mat values = NcnnNet::extract(extractor, spec.name);
    size_t plane = size_t(contract_.size) * contract_.size;
    if (values.w != contract_.size || values.h != contract_.size || values.c != spec.shape[1]) {
      throw bad_bundle("ncnn gave " + shown(spec.name) + " of another shape than the contract's");
    }
    out.resize(plane * spec.shape[1]);
    for (int c = 0; c < values.c; c++) std::memcpy(&out[plane * c], values.channel(c), plane * sizeof(float));
  }

  Contract contract_;
  NcnnNet net_;
};

}  // namespace

std::unique_ptr<Network> open_ncnn(const Bundle& bundle, int threads) {
  const Artifact& artifact = bundle.artifact("ncnn");
  int size = bundle.contract.size;
  bool fits = artifact.layout == "CHW" && artifact.files.size() == 2;
  std::vector<TensorSpec> specs = bundle.contract.mask;
  specs.push_back(bundle.contract.input);
  specs.push_back(bundle.contract.swapped);
  for (const TensorSpec& spec : specs) {
    const ArtifactTensor& tensor = artifact.tensor(spec.name);
    fits = fits && tensor.dtype == "float32" && tensor.shape == std::vector<int>{spec.shape[1], size, size};
  }
  if (!fits) throw bad_bundle("the manifest's ncnn artifact is not of its contract");
  auto network = std::make_unique<NcnnNetwork>(bundle, artifact, threads);
  Outputs outputs;
  network->run(std::vector<uint8_t>(size_t(size) * size * 3).data(), outputs);  // so that a graph that cannot run fails here
  return network;
}

}  // namespace mfs
