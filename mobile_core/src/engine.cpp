#include "engine.h"

#include <chrono>

#include "error.h"

namespace mfs {

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

Engine::Engine(std::shared_ptr<const Bundle> bundle, const NetworkOptions& options, const std::string& detector)
    : bundle_(std::move(bundle)),
      options_(options),
      network_(open_network(*bundle_, options)),
      detector_(detector.empty() ? open_detector(*bundle_, options.threads)
                                 : open_detector(std::filesystem::path(detector), options.threads)),
      paster_(bundle_->paste_back, bundle_->contract.size),
      crop_(size_t(bundle_->contract.size) * bundle_->contract.size * 3) {}

bool Engine::find(const Frame& frame, Landmarks& landmarks) {
  if (detector_ == nullptr) throw bad_argument("no landmarks were given, and there is no detector");
  for (const Face& face : detector_->detect(frame)) {
    landmarks = face.landmarks;
    return true;
  }
  return false;
}

void Engine::swap(const Frame& frame, const Landmarks& landmarks, StageTimes& ms) {
  double start = now();
  const Affine back = alignment(landmarks, bundle_->alignment, bundle_->contract.size).inverse();
  sample(frame, back, bundle_->contract.size, bundle_->contract.size, Border::black, crop_.data());
  double aligned = now();
  network_->run(crop_.data(), outputs_);
  double swapped = now();
  paster_.paste(frame, outputs_, back);
  double pasted = now();
  ms[kAlign] = (aligned - start) * 1e3;
  ms[kNetwork] = (swapped - aligned) * 1e3;
  ms[kPaste] = (pasted - swapped) * 1e3;
}

void Engine::write(JsonWriter& out) const {
  const Recipe& recipe_entry = bundle_->recipes.at(recipe());
  out.member("bundle", bundle_->name)
      .member("contract_sha256", bundle_->contract.sha256)
      .member("manifest_sha256", bundle_->manifest_sha256);
  out.member("architecture", bundle_->contract.arch).member("size", bundle_->contract.size);
  out.member("backend", options_.backend).member("runtime", network_->runtime).member("recipe", recipe());
  out.member("weights", recipe_entry.weights).member("activations", recipe_entry.activations);
  out.member("precision", network_->precision)
      .member("pixels", network_->gives_pixels)
      .member("threads", options_.threads)
      .key("detector");
  if (detector_ == nullptr) {
    out.null();
  } else {
    out.value(detector_->name);
  }
}

}  // namespace mfs
