#include "frame.h"

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

void convert(const Frame& from, bool mirrored, const Frame& to) {
  bool is_turned = from.rotation % 180 != 0;
  int width = is_turned ? from.height : from.width, height = is_turned ? from.width : from.height;
  if (to.is_yuv) throw bad_argument("frames are converted to RGB, RGBA or BGRA only");
  if (to.width != width || to.height != height) {
    throw bad_argument("the upright frame is " + std::to_string(width) + "x" + std::to_string(height) + ", the target is " +
                       std::to_string(to.width) + "x" + std::to_string(to.height));
  }
  for (int y = 0; y < height; y++) {
    for (int x = 0; x < width; x++) {
      int across = mirrored ? width - 1 - x : x;
      int u = from.rotation == 0 ? across : from.rotation == 90 ? y : from.rotation == 180 ? width - 1 - across : height - 1 - y;
      int v = from.rotation == 0 ? y : from.rotation == 90 ? width - 1 - across : from.rotation == 180 ? height - 1 - y : across;
      float rgb[3];
      from.rgb(u, v, rgb);
      for (int c = 0; c < 3; c++) to.at(c, x, y) = uint8_t(rgb[c]);
      if (to.opacity != nullptr) to.opacity[y * to.row[0] + x * to.step[0]] = 255;
    }
  }
}

}  // namespace mfs
