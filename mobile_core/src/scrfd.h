// Where the faces are, for apps whose system does not say.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "bundle.h"
#include "frame.h"

namespace mfs {

// One detection, in pixels of the frame it was found in.
struct Face {
  float score;
  std::array<float, 4> box;  // x1, y1, x2, y2; it may reach beyond the frame
  Landmarks landmarks;
};

class Detector {
 public:
  virtual ~Detector() = default;
  virtual std::vector<Face> detect(const Frame& frame) = 0;  // by falling score
  std::string name;
};

// SCRFD with keypoints as ncnn files, converted by pnnx: an input in0, and out0 to out8 or out14 as scores, boxes, keypoints, each
// for every stride.  Run as insightface's model_zoo/scrfd.py runs it; the input layer's size is used, 640x640 where it has none.
std::unique_ptr<Detector> open_scrfd(std::vector<uint8_t> param, std::vector<uint8_t> bin, int threads);

// Of a folder, or of a bundle that names both files; null where it does not.
constexpr const char* kDetectorParam = "detector.param";
constexpr const char* kDetectorBin = "detector.bin";
std::unique_ptr<Detector> open_detector(const std::filesystem::path& folder, int threads);
std::unique_ptr<Detector> open_detector(const Bundle& bundle, int threads);

// Greedy non-maximum suppression: which of some boxes, given by falling score, overlap no better one by more than `limit` of their
// common area.  Areas count both end pixels, as insightface has it.
std::vector<size_t> suppress(const std::vector<std::array<float, 4>>& boxes, float limit);

}  // namespace mfs
