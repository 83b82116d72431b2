#include "paste.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace mfs {
namespace {

// out(y, x) = the largest or smallest of the (2r + 1)^2 values around; what lies outside does not count.
template <class Better>
void extreme(std::vector<float>& image, std::vector<float>& scratch, int size, int radius, Better better) {
  for (int y = 0; y < size; y++) {
    const float* in = &image[size_t(y) * size];
    float* out = &scratch[size_t(y) * size];
    std::copy(in, in + size, out);
    for (int k = 1; k <= radius; k++) {
      for (int x = 0; x + k < size; x++) out[x] = better(out[x], in[x + k]);
      for (int x = k; x < size; x++) out[x] = better(out[x], in[x - k]);
    }
  }
  for (int y = 0; y < size; y++) {
    float* out = &image[size_t(y) * size];
    std::copy(&scratch[size_t(y) * size], &scratch[size_t(y) * size] + size, out);
    for (int row = std::max(0, y - radius); row <= std::min(size - 1, y + radius); row++) {
      const float* in = &scratch[size_t(row) * size];
      for (int x = 0; x < size; x++) out[x] = better(out[x], in[x]);
    }
  }
}

int mirrored(int i, int size) { return i < 0 ? -i : i >= size ? 2 * size - 2 - i : i; }  // the edge itself is not repeated

// The mean of the kernel^2 values around, mirrored at the edge.
void blur(std::vector<float>& image, std::vector<float>& scratch, int size, int kernel) {
  const int radius = kernel / 2;
  std::vector<double> sum(size);
  std::vector<float> wide(size_t(size) + 2 * radius);
  auto add = [&](const float* in) {
    for (int x = 0; x < size; x++) sum[x] += in[x];
  };
  auto mean = [&](float* out) {
    for (int x = 0; x < size; x++) out[x] = float(sum[x] / kernel);
    std::fill(sum.begin(), sum.end(), 0.0);
  };
  for (int y = 0; y < size; y++) {
    for (int x = -radius; x < size + radius; x++) wide[x + radius] = image[size_t(y) * size + mirrored(x, size)];
    for (int k = 0; k < kernel; k++) add(&wide[k]);
    mean(&scratch[size_t(y) * size]);
  }
  for (int y = 0; y < size; y++) {
    for (int k = -radius; k <= radius; k++) add(&scratch[size_t(mirrored(y + k, size)) * size]);
    mean(&image[size_t(y) * size]);
  }
}

// Where along a row `at + slope * x` lies strictly between -1 and `size`; narrows [first, last).
void narrow(double at, double slope, int size, double& first, double& last) {
  if (std::abs(slope) < 1e-12) {
    if (!(at > -1 && at < size)) last = first;
    return;
  }
  double a = (-1 - at) / slope, b = (size - at) / slope;
  const double beyond = 2 * Frame::kLargestSide;
  first = std::max(first, std::clamp(std::floor(std::min(a, b)), 0.0, beyond));
  last = std::min(last, std::clamp(std::ceil(std::max(a, b)) + 1, 0.0, beyond));
}

// Bilinear, black outside: weight and RGB in [0, 255] of the swapped crop at a place of the crop.
struct CropReader {
  const float* plane[4];  // R, G, B in [0, 1]; alpha
  int size;

  bool read(double fx, double fy, float rgb[3], float& alpha) const {
    if (!(fx > -1 && fy > -1 && fx < size && fy < size)) return false;
    int x0 = int(std::floor(fx)), y0 = int(std::floor(fy));
    float right = float(fx - x0), down = float(fy - y0);
    float weight[4] = {(1 - right) * (1 - down), right * (1 - down), (1 - right) * down, right * down};
    size_t place[4];
    for (int i = 0; i < 4; i++) {
      int x = x0 + i % 2, y = y0 + i / 2;
      if (x < 0 || y < 0 || x >= size || y >= size) weight[i] = 0;
      place[i] = size_t(std::clamp(y, 0, size - 1)) * size + std::clamp(x, 0, size - 1);
    }
    auto mix = [&](const float* values) {
      return values[place[0]] * weight[0] + values[place[1]] * weight[1] + values[place[2]] * weight[2] +
             values[place[3]] * weight[3];
    };
    alpha = mix(plane[3]);
    if (alpha == 0) return false;
    for (int c = 0; c < 3; c++) rgb[c] = mix(plane[c]) * 255;
    return true;
  }
};

uint8_t cut(float value) { return uint8_t(value < 255 ? (value > 0 ? value : 0) : value >= 255 ? 255 : 0); }  // NaN becomes 0

}  // namespace

Paster::Paster(const PasteBack& paste, int size)
    : paste_(paste), size_(size), alpha_(size_t(size) * size), scratch_(size_t(size) * size) {
  if (const auto* mask = std::get_if<MaskPaste>(&paste_)) {
    if (mask->blur_kernel / 2 >= size || mask->border_blur_kernel / 2 >= size)
      throw bad_bundle("paste_back's blurs are wider than the crop");
    border_.assign(alpha_.size(), 0.0f);
    for (int y = mask->border; y < size - mask->border; y++) {
      std::fill_n(&border_[size_t(y) * size + mask->border], size - 2 * mask->border, 1.0f);
    }
    blur(border_, scratch_, size, mask->border_blur_kernel);
    return;
  }
  const auto& ellipse = std::get<EllipsePaste>(paste_);
  for (int y = 0; y < size; y++) {
    for (int x = 0; x < size; x++) {
      double dx = ((x + 0.5) / size - ellipse.centre_x) / ellipse.radius_x,
             dy = ((y + 0.5) / size - ellipse.centre_y) / ellipse.radius_y;
      alpha_[size_t(y) * size + x] = float(std::clamp((1 - std::hypot(dx, dy)) / ellipse.edge, 0.0, 1.0));
    }
  }
}

const std::vector<float>& Paster::alpha(const std::vector<float>& mask) {
  if (const auto* paste = std::get_if<MaskPaste>(&paste_)) soften(mask, *paste);
  return alpha_;
}

void Paster::soften(const std::vector<float>& mask, const MaskPaste& p) {
  if (mask.size() != alpha_.size()) throw bad_argument("this bundle's paste-back needs the network's mask");
  for (size_t i = 0; i < mask.size(); i++) alpha_[i] = mask[i] > float(p.threshold) ? 1.0f : mask[i];
  // Repeated squares are one larger square.
  int radius = p.morph_kernel / 2;
  extreme(alpha_, scratch_, size_, radius * p.dilations, [](float a, float b) { return a > b ? a : b; });
  extreme(alpha_, scratch_, size_, radius * p.erosions, [](float a, float b) { return a < b ? a : b; });
  blur(alpha_, scratch_, size_, p.blur_kernel);
  for (size_t i = 0; i < alpha_.size(); i++) alpha_[i] *= border_[i];
}

void Paster::paste(const Frame& frame, const Outputs& outputs, const Affine& back) {
  const std::vector<float>& weights = alpha(outputs.mask);
  size_t pixels = size_t(size_) * size_;
  const CropReader crop{{&outputs.swapped[0], &outputs.swapped[pixels], &outputs.swapped[2 * pixels], weights.data()}, size_};
  const Affine to_crop = back.inverse();
  // The crop's corners, one pixel further out, bound the rows.
  double top = std::numeric_limits<double>::max(), bottom = -top;
  for (int i = 0; i < 4; i++) {
    double x, y;
    back.apply(i % 2 ? size_ : -1, i / 2 ? size_ : -1, x, y);
    top = std::min(top, y);
    bottom = std::max(bottom, y);
  }
  int first_row = int(std::clamp(std::floor(top), 0.0, double(frame.height)));
  int last_row = int(std::clamp(std::ceil(bottom) + 1, 0.0, double(frame.height)));
  if (frame.is_yuv) first_row -= first_row % 2;  // chroma is of two rows

  // What a row pair adds to the chroma under it: the pixels' weights, and their colours times these.
  std::vector<float> added(frame.is_yuv ? size_t((frame.width + 1) / 2) * 3 : 0);
  for (int y = first_row; y < last_row; y++) {
    double first = 0, last = frame.width;
    narrow(to_crop.m[1] * y + to_crop.m[2], to_crop.m[0], size_, first, last);
    narrow(to_crop.m[4] * y + to_crop.m[5], to_crop.m[3], size_, first, last);
    for (int x = int(first); x < int(last); x++) {
      double u, v;
      to_crop.apply(x, y, u, v);
      float rgb[3], alpha;
      if (!crop.read(u, v, rgb, alpha)) continue;
      if (!frame.is_yuv) {
        for (int c = 0; c < 3; c++) {
          uint8_t& pixel = frame.at(c, x, y);
          pixel = cut(rgb[c] * alpha + float(pixel) * (1 - alpha));
        }
        continue;
      }
      float yuv[3];
      frame.matrix.to_yuv(rgb, yuv);
      uint8_t& luma = frame.at(0, x, y);
      luma = cut(yuv[0] * alpha + float(luma) * (1 - alpha) + 0.5f);
      float* sum = &added[size_t(x / 2) * 3];
      sum[0] += alpha;
      sum[1] += yuv[1] * alpha;
      sum[2] += yuv[2] * alpha;
    }
    if (!frame.is_yuv || (y % 2 == 0 && y + 1 < last_row)) continue;
    int rows = (y | 1) < frame.height ? 2 : 1;
    for (int x = 0; x < (frame.width + 1) / 2; x++) {
      float* sum = &added[size_t(x) * 3];
      if (sum[0] == 0) continue;
      float share = 1.0f / float(rows * (2 * x + 1 < frame.width ? 2 : 1));
      for (int c = 1; c < 3; c++) {
        uint8_t& chroma = frame.at(c, x, y / 2);
        chroma = cut(sum[c] * share + float(chroma) * (1 - sum[0] * share) + 0.5f);
      }
      std::fill(sum, sum + 3, 0.0f);
    }
  }
}

}  // namespace mfs
