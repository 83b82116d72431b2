// The whole way of a frame: find the face, align, run the network, paste back.
#pragma once

#include <memory>

#include "network.h"
#include "one_euro.h"
#include "scrfd.h"
#include "stats.h"

namespace mfs {

double now();  // seconds, of a steady clock

// An opened bundle in one runtime.  One thread at a time.
class Engine {
 public:
  // `detector`: a folder that holds one; empty takes the bundle's own, if there is one.
  Engine(std::shared_ptr<const Bundle> bundle, const NetworkOptions& options, const std::string& detector);

  // The face to swap: that of the highest score.  False where there is none.  Throws bad_argument where there is no detector.
  bool find(const Frame& frame, Landmarks& landmarks);
  // In place; stages align to paste of `ms` are filled.
  void swap(const Frame& frame, const Landmarks& landmarks, StageTimes& ms);

  const Bundle& bundle() const { return *bundle_; }
  const NetworkOptions& options() const { return options_; }
  Network& network() { return *network_; }
  Paster& paster() { return paster_; }
  Detector* detector() { return detector_.get(); }
  const std::string& recipe() const { return bundle_->artifact(options_.backend).recipe; }
  void write(JsonWriter& out) const;  // members that say what it is

 private:
  std::shared_ptr<const Bundle> bundle_;
  NetworkOptions options_;
  std::unique_ptr<Network> network_;
  std::unique_ptr<Detector> detector_;
  Paster paster_;
  Outputs outputs_;
  std::vector<uint8_t> crop_;
};

}  // namespace mfs
