// Pixels as cameras give them, read and written where they lie.
#pragma once

#include <cstdint>

#include "error.h"

namespace mfs {

// How a colour matrix and its range take YUV bytes to RGB and back.  Sources: ITU-R BT.601, BT.709; JFIF 1.02 for full range.
struct YuvMatrix {
  explicit YuvMatrix(int32_t colour);  // an mfs_colour
  float kr, kb;                        // weights of red and blue in luma
  float y_offset, y_scale, c_scale;    // bytes per unit of luma and chroma, where RGB is in [0, 255]

  void to_rgb(float y, float u, float v, float rgb[3]) const {
    float luma = (y - y_offset) / y_scale, blue = (u - 128) / c_scale, red = (v - 128) / c_scale;
    rgb[0] = luma + 2 * (1 - kr) * red;
    rgb[2] = luma + 2 * (1 - kb) * blue;
    rgb[1] = (luma - kr * rgb[0] - kb * rgb[2]) / (1 - kr - kb);
  }
  void to_yuv(const float rgb[3], float yuv[3]) const {
    float luma = kr * rgb[0] + (1 - kr - kb) * rgb[1] + kb * rgb[2];
    yuv[0] = luma * y_scale + y_offset;
    yuv[1] = (rgb[2] - luma) / (2 * (1 - kb)) * c_scale + 128;
    yuv[2] = (rgb[0] - luma) / (2 * (1 - kr)) * c_scale + 128;
  }
};

// A checked view of an mfs_frame.
struct Frame {
  static constexpr int kLargestSide = 16384;

  explicit Frame(const mfs_frame& frame);  // throws bad_argument

  bool is_yuv;
  int width, height, rotation;
  // RGB: one plane per channel, in the order R, G, B, each `step` bytes a pixel.  YUV: Y, U, V.
  uint8_t* plane[3];
  std::ptrdiff_t row[3], step[3];
  uint8_t* opacity;  // the fourth byte of the first pixel, or null
  YuvMatrix matrix;

  uint8_t& at(int channel, int x, int y) const { return plane[channel][y * row[channel] + x * step[channel]]; }

  // RGB in [0, 255], rounded to whole levels: what converting the whole frame would give.
  void rgb(int x, int y, float out[3]) const {
    if (!is_yuv) {
      for (int c = 0; c < 3; c++) out[c] = at(c, x, y);
      return;
    }
    matrix.to_rgb(at(0, x, y), at(1, x / 2, y / 2), at(2, x / 2, y / 2), out);
    for (int c = 0; c < 3; c++) out[c] = level(out[c]);
  }

  static float level(float value) { return float(int(value < 0 ? 0 : value > 255 ? 255 : value + 0.5f)); }
};

// The whole of `from`, turned upright and perhaps mirrored left to right, into `to`.
void convert(const Frame& from, bool mirrored, const Frame& to);

}  // namespace mfs
