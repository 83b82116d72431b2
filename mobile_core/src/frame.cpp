#include "frame.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>

namespace mfs {

YuvMatrix::YuvMatrix(int32_t colour) {
  bool is_709 = colour == MFS_BT709_FULL || colour == MFS_BT709_VIDEO,
       is_full = colour == MFS_BT601_FULL || colour == MFS_BT709_FULL;
  kr = is_709 ? 0.2126f : 0.299f;
  kb = is_709 ? 0.0722f : 0.114f;
  y_offset = is_full ? 0 : 16;
  y_scale = is_full ? 1 : 219 / 255.0f;
  c_scale = is_full ? 1 : 224 / 255.0f;
}

Frame::Frame(const mfs_frame& frame)
    : is_yuv(frame.format >= MFS_I420),
      width(frame.width),
      height(frame.height),
      rotation(frame.rotation),
      plane{},
      row{},
      step{},
      opacity(nullptr),
      matrix(frame.colour) {
  auto is_from = [](int value, int low, int high, const char* what) {
    if (value < low || value > high) {
      throw bad_argument(std::string("frame: ") + what + " is " + std::to_string(value) + ", must be from " + std::to_string(low) +
                         " to " + std::to_string(high));
    }
  };
  is_from(frame.format, MFS_RGB, MFS_NV21, "format");
  is_from(frame.colour, MFS_BT601_FULL, MFS_BT709_VIDEO, "colour");
  is_from(width, 1, kLargestSide, "width");
  is_from(height, 1, kLargestSide, "height");
  if (rotation != 0 && rotation != 90 && rotation != 180 && rotation != 270) {
    throw bad_argument("frame: rotation is " + std::to_string(rotation) + ", must be 0, 90, 180 or 270");
  }
  int planes = frame.format == MFS_I420 ? 3 : is_yuv ? 2 : 1;
  for (int i = 0; i < planes; i++) {
    int columns = i > 0 ? (width + 1) / 2 : width;
    int bytes = !is_yuv ? (frame.format == MFS_RGB ? 3 : 4) : planes == 2 && i == 1 ? 2 : 1;  // that a pixel holds
    int stride = frame.pixel_stride[i] == 0 ? bytes : frame.pixel_stride[i];
    if (frame.planes[i] == nullptr) throw bad_argument("frame: plane " + std::to_string(i) + " is missing");
    is_from(stride, bytes, is_yuv && i > 0 ? 2 : bytes, "pixel_stride");
    is_from(frame.row_stride[i], (columns - 1) * stride + bytes, 1 << 24, "row_stride");
    plane[i] = frame.planes[i];
    row[i] = frame.row_stride[i];
    step[i] = stride;
  }
  if (!is_yuv) {
    uint8_t* base = plane[0];
    for (int c = 0; c < 3; c++) {
      plane[c] = base + (frame.format == MFS_BGRA ? 2 - c : c);
      row[c] = row[0];
      step[c] = step[0];
    }
    opacity = frame.format == MFS_RGB ? nullptr : base + 3;
  } else if (planes == 2) {
    uint8_t* base = plane[1];
    plane[1] = base + (frame.format == MFS_NV12 ? 0 : 1);
    plane[2] = base + (frame.format == MFS_NV12 ? 1 : 0);
    row[2] = row[1];
    step[2] = step[1];
  }
}

namespace {

constexpr int kTile = 32;  // pixels; even, as chroma is of two, and small enough for both frames' rows to stay in the cache

// Rows of a frame as words of four bytes: three colours, the first one red or blue, and 255.
class RowReader {
 public:
  RowReader(const Frame& frame, bool is_blue_first) : frame_(frame), first_(is_blue_first ? 16 : 0), last_(16 - first_) {
    const YuvMatrix& m = frame.matrix;
    scale_ = 1 / m.y_scale;
    offset_ = -m.y_offset / m.y_scale + 0.5f;  // to be cut off
    for (int i = 0; i < 256; i++) {
      float colour = float(i - 128) / m.c_scale;
      blue_[i] = 2 * (1 - m.kb) * colour;
      red_[i] = 2 * (1 - m.kr) * colour;
      green_of_blue_[i] = -m.kb * blue_[i] / (1 - m.kr - m.kb);
      green_of_red_[i] = -m.kr * red_[i] / (1 - m.kr - m.kb);
    }
  }

  void read(int left, int y, int count, uint32_t* out) const {
    if (frame_.is_yuv) {
      read_yuv(left, y, count, out);
      return;
    }
    for (int i = 0; i < count; i++) {
      out[i] = word(frame_.at(0, left + i, y), frame_.at(1, left + i, y), frame_.at(2, left + i, y));
    }
  }

 private:
  // `left` is even.
  void read_yuv(int left, int y, int count, uint32_t* out) const {
    float red[kTile + 1], green[kTile + 1], blue[kTile + 1], luma[kTile];
    for (int i = 0; i < count; i += 2) {
      uint8_t u = frame_.at(1, (left + i) / 2, y / 2), v = frame_.at(2, (left + i) / 2, y / 2);
      red[i] = red[i + 1] = red_[v];
      green[i] = green[i + 1] = green_of_blue_[u] + green_of_red_[v];
      blue[i] = blue[i + 1] = blue_[u];
    }
    const uint8_t* in = &frame_.at(0, left, y);
    for (int i = 0; i < count; i++) luma[i] = float(in[i]) * scale_ + offset_;
    for (int i = 0; i < count; i++) out[i] = word(level(luma[i] + red[i]), level(luma[i] + green[i]), level(luma[i] + blue[i]));
  }

  static int level(float value) { return int(std::min(std::max(value, 0.0f), 255.0f)); }
  uint32_t word(int red, int green, int blue) const {
    return uint32_t(red) << first_ | uint32_t(green) << 8 | uint32_t(blue) << last_ | 0xff000000u;
  }

  const Frame& frame_;
  int first_, last_;  // bits of red and of blue
  float scale_, offset_, red_[256], blue_[256], green_of_blue_[256], green_of_red_[256];
};

// A tile's pixels to where they go, so that writing runs along rows.
template <int bytes>
void put(const uint32_t tile[kTile][kTile], int columns, int rows, uint8_t* corner, std::ptrdiff_t next_u, std::ptrdiff_t next_v) {
  if (std::abs(next_u) == bytes) {
    for (int v = 0; v < rows; v++) {
      for (int u = 0; u < columns; u++) std::memcpy(corner + u * next_u + v * next_v, &tile[v][u], bytes);
    }
    return;
  }
  for (int u = 0; u < columns; u++) {
    for (int v = 0; v < rows; v++) std::memcpy(corner + u * next_u + v * next_v, &tile[v][u], bytes);
  }
}

}  // namespace

void convert(const Frame& from, bool mirrored, const Frame& to) {
  const bool is_turned = from.rotation % 180 != 0;
  const int width = is_turned ? from.height : from.width, height = is_turned ? from.width : from.height;
  if (to.is_yuv) throw bad_argument("frames are converted to RGB, RGBA or BGRA only");
  if (to.width != width || to.height != height) {
    throw bad_argument("the upright frame is " + std::to_string(width) + "x" + std::to_string(height) + ", the target is " +
                       std::to_string(to.width) + "x" + std::to_string(to.height));
  }
  // Where a pixel of `from` goes, in bytes from the first of `to`; linear in both.
  auto place = [&](int u, int v) {
    int across = from.rotation == 0 ? u : from.rotation == 90 ? from.height - 1 - v : from.rotation == 180 ? from.width - 1 - u : v;
    int down = from.rotation == 0 ? v : from.rotation == 90 ? u : from.rotation == 180 ? from.height - 1 - v : from.width - 1 - u;
    return (mirrored ? width - 1 - across : across) * to.step[0] + down * to.row[0];
  };
  uint8_t* first = std::min(to.plane[0], to.plane[2]);
  const std::ptrdiff_t next_u = place(1, 0) - place(0, 0), next_v = place(0, 1) - place(0, 0);
  const RowReader reader(from, to.plane[0] > to.plane[2]);
  uint32_t tile[kTile][kTile];
  for (int top = 0; top < from.height; top += kTile) {
    const int rows = std::min(kTile, from.height - top);
    for (int left = 0; left < from.width; left += kTile) {
      const int columns = std::min(kTile, from.width - left);
      for (int v = 0; v < rows; v++) reader.read(left, top + v, columns, tile[v]);
      uint8_t* corner = first + place(left, top);
      if (to.step[0] == 4) {
        put<4>(tile, columns, rows, corner, next_u, next_v);
      } else {
        put<3>(tile, columns, rows, corner, next_u, next_v);
      }
    }
  }
}

}  // namespace mfs
