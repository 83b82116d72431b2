#include "scrfd.h"

#include <algorithm>
#include <numeric>

#include "align.h"
#include "error.h"
#include "ncnn_net.h"

namespace mfs {
namespace {

constexpr float kThreshold = 0.6f;  // of a score; this and the next as in the original
constexpr float kOverlap = 0.4f;
constexpr int kCanvas = 640;
constexpr size_t kMostCandidates = 2000;

class Scrfd : public Detector {
 public:
  Scrfd(std::vector<uint8_t> param, std::vector<uint8_t> bin, int threads)
      : net_(std::move(param), std::move(bin), threads, "the detector") {
    name = "SCRFD";
    int outputs = 0;
    while (outputs < 16 && net_.has_blob("out" + std::to_string(outputs))) outputs++;
    if (!net_.has_blob("in0") || (outputs != 9 && outputs != 15)) {
      throw bad_bundle("the detector has " + std::to_string(outputs) +
                       " outputs out0, out1, ...; SCRFD with keypoints has 9 or 15, and an input in0");
    }
    strides_ = outputs == 9 ? std::vector<int>{8, 16, 32} : std::vector<int>{8, 16, 32, 64, 128};
    anchors_ = outputs == 9 ? 2 : 1;
    net_.input_size(width_, height_);
    if (width_ == 0 || height_ == 0) width_ = height_ = kCanvas;
    bool fits = width_ % strides_.back() == 0 && height_ % strides_.back() == 0 && width_ > 0 && height_ > 0 && width_ <= 2048 &&
                height_ <= 2048;
    if (!fits) throw bad_bundle("the detector takes " + std::to_string(width_) + "x" + std::to_string(height_) + " images");
  }

  std::vector<Face> detect(const Frame& frame) override {
    // The upright frame into the top left of a black canvas, its ratio kept; the scale is that of the heights.
    bool is_turned = frame.rotation % 180 != 0;
    int upright_width = is_turned ? frame.height : frame.width, upright_height = is_turned ? frame.width : frame.height;
    double ratio = double(upright_height) / upright_width;
    bool is_tall = ratio > double(height_) / width_;
    int width = is_tall ? std::max(1, int(height_ / ratio)) : width_, height = is_tall ? height_ : std::max(1, int(width_ * ratio));
    double sx = double(upright_width) / width, sy = double(upright_height) / height, scale = 1 / sy;
    const Affine to_frame = turned({{sx, 0, sx / 2 - 0.5, 0, sy, sy / 2 - 0.5}}, frame);
    small_.resize(size_t(width) * height * 3);
    sample(frame, to_frame, width, height, Border::nearest, small_.data());

    ncnn::Mat input(width_, height_, 3);
    if (input.empty()) throw failed("no memory for the detector");
    input.fill((0 - 127.5f) / 128);
    for (int c = 0; c < 3; c++) {
      for (int y = 0; y < height; y++) {
        float* row = input.channel(c).row(y);
        for (int x = 0; x < width; x++) row[x] = (float(small_[(size_t(y) * width + x) * 3 + c]) - 127.5f) / 128;
      }
    }
    std::vector<Face> found = candidates(input);
    std::stable_sort(found.begin(), found.end(), [](const Face& a, const Face& b) { return a.score > b.score; });
    if (found.size() > kMostCandidates) found.resize(kMostCandidates);
    std::vector<std::array<float, 4>> boxes;
    for (Face& face : found) {
      for (float& side : face.box) side /= float(scale);
      boxes.push_back(face.box);
    }
    // Upright pixels to the frame's own.
    const Affine back = turned({{1 / scale, 0, 0, 0, 1 / scale, 0}}, frame);
    const Affine turn = turned({{1, 0, 0, 0, 1, 0}}, frame);
    std::vector<Face> kept;
    for (size_t i : suppress(boxes, kOverlap)) {
      Face face = found[i];
      for (size_t k = 0; k < 10; k += 2)
        back.apply(found[i].landmarks[k], found[i].landmarks[k + 1], face.landmarks[k], face.landmarks[k + 1]);
      double x1, y1, x2, y2;
      turn.apply(face.box[0], face.box[1], x1, y1);
      turn.apply(face.box[2], face.box[3], x2, y2);
      face.box = {float(std::min(x1, x2)), float(std::min(y1, y2)), float(std::max(x1, x2)), float(std::max(y1, y2))};
      kept.push_back(face);
    }
    return kept;
  }

 private:
  // `to_upright` followed by the turn from upright pixels to those of the buffer.
  static Affine turned(const Affine& a, const Frame& f) {
    const double *m = a.m, w = f.width - 1, h = f.height - 1;
    switch (f.rotation) {
      case 90:
        return {{m[3], m[4], m[5], -m[0], -m[1], h - m[2]}};
      case 180:
        return {{-m[0], -m[1], w - m[2], -m[3], -m[4], h - m[5]}};
      case 270:
        return {{-m[3], -m[4], w - m[5], m[0], m[1], m[2]}};
      default:
        return a;
    }
  }

  // What reaches the threshold, in pixels of the canvas.
  std::vector<Face> candidates(const ncnn::Mat& input) {
    ncnn::Extractor extractor = net_.extractor();
    if (extractor.input("in0", input) != 0) throw failed("the detector refused its input");
    std::vector<Face> found;
    const size_t levels = strides_.size();
    const int values[3] = {1, 4, 10};
    for (size_t level = 0; level < levels; level++) {
      int stride = strides_[level], columns = width_ / stride, count = columns * (height_ / stride) * anchors_;
      ncnn::Mat parts[3];
      for (int i = 0; i < 3; i++) {
        parts[i] = NcnnNet::extract(extractor, "out" + std::to_string(level + levels * i));
        // A vector of scores may have lost its axis of 1.
        bool is_row = values[i] == 1 && parts[i].dims == 1 && parts[i].w == count;
        if (!is_row && (parts[i].w != values[i] || parts[i].h != count || parts[i].c != 1)) {
          throw bad_bundle("the detector gave other shapes than SCRFD at stride " + std::to_string(stride));
        }
      }
      const float *scores = parts[0], *distances = parts[1], *offsets = parts[2];
      for (int i = 0; i < count; i++) {
        if (!(scores[i] >= kThreshold)) continue;
        int cell = i / anchors_;
        float x = float(cell % columns * stride), y = float(cell / columns * stride), s = float(stride);
        const float *d = distances + 4 * i, *k = offsets + 10 * i;
        Face face{scores[i], {x - d[0] * s, y - d[1] * s, x + d[2] * s, y + d[3] * s}, {}};
        for (int p = 0; p < 10; p += 2) {
          face.landmarks[p] = x + k[p] * s;
          face.landmarks[p + 1] = y + k[p + 1] * s;
        }
        found.push_back(face);
      }
    }
    return found;
  }

  NcnnNet net_;
  std::vector<int> strides_;
  int anchors_, width_ = 0, height_ = 0;
  std::vector<uint8_t> small_;
};

}  // namespace

std::vector<size_t> suppress(const std::vector<std::array<float, 4>>& boxes, float limit) {
  auto area = [](const std::array<float, 4>& b) { return (b[2] - b[0] + 1) * (b[3] - b[1] + 1); };
  std::vector<size_t> kept;
  for (size_t i = 0; i < boxes.size(); i++) {
    bool is_free = std::all_of(kept.begin(), kept.end(), [&](size_t k) {
      const auto &a = boxes[k], &b = boxes[i];
      float width = std::max(0.0f, std::min(a[2], b[2]) - std::max(a[0], b[0]) + 1);
      float height = std::max(0.0f, std::min(a[3], b[3]) - std::max(a[1], b[1]) + 1);
      float shared = width * height;
      return shared / (area(a) + area(b) - shared) <= limit;
    });
    if (is_free) kept.push_back(i);
  }
  return kept;
}

std::unique_ptr<Detector> open_scrfd(std::vector<uint8_t> param, std::vector<uint8_t> bin, int threads) {
  return std::make_unique<Scrfd>(std::move(param), std::move(bin), threads);
}

std::unique_ptr<Detector> open_detector(const std::filesystem::path& folder, int threads) {
  std::vector<uint8_t> param = read_file(folder, kDetectorParam, Bundle::kLargestFile);
  return open_scrfd(std::move(param), read_file(folder, kDetectorBin, Bundle::kLargestFile), threads);
}

std::unique_ptr<Detector> open_detector(const Bundle& bundle, int threads) {
  if (!bundle.holds(kDetectorParam) || !bundle.holds(kDetectorBin)) return nullptr;
  return open_scrfd(bundle.load(kDetectorParam), bundle.load(kDetectorBin), threads);
}

}  // namespace mfs
