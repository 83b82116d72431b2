// What needs no Python to be judged.  With a bundle as argument also sessions: loading beside a running one, and what keeps the
// old.
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <thread>

#include "align.h"
#include "bundle.h"
#include "error.h"
#include "host_info.h"
#include "npy.h"
#include "one_euro.h"
#include "paste.h"
#include "scrfd.h"
#include "sha256.h"
#include "stats.h"

using namespace mfs;

namespace {

int failures = 0;

void check(bool holds, const char* text, int line) {
  if (holds) return;
  failures++;
  std::printf("core_test.cpp:%d: %s\n", line, text);
}
#define CHECK(condition) check(condition, #condition, __LINE__)

// That `body` throws an error of this kind, with `word` in its message.
void refuses(mfs_status status, const std::string& word, const std::function<void()>& body, int line) {
  try {
    body();
    check(false, ("not refused: " + word).c_str(), line);
  } catch (const Error& error) {
    bool holds = error.status == status && std::string(error.what()).find(word) != std::string::npos;
    check(holds, ("refused with: " + std::string(error.what())).c_str(), line);
  }
}
#define REFUSES(status, word, ...) \
  refuses(                         \
      status, word, [&] { __VA_ARGS__; }, __LINE__)

struct Random {
  uint64_t state = 88172645463325252u;
  uint32_t next() {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return uint32_t(state >> 32);
  }
  float unit() { return float(next() >> 8) / float(1 << 24); }
};

std::vector<uint8_t> bytes_of(const std::string& text) { return {text.begin(), text.end()}; }

const AlignmentTemplate kTemplate{112,
                                  {38.29459953, 51.69630051, 73.53179932, 51.50139999, 56.02519989, 71.73660278, 41.54930115,
                                   92.3655014, 70.72990036, 92.20410156},
                                  AlignmentTemplate::Solver::affine};
const MaskPaste kMaskPaste{0.001, 11, 1, 2, 7, 10, 11};
const Landmarks kPoints{60, 50, 110, 54, 84, 80, 62, 100, 104, 103};

void hashes() {
  // FIPS 180-4's examples, and lengths around a block's end against a message cut differently.
  CHECK(sha256("", 0) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(sha256("abc", 3) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56) ==
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  std::string million(1000000, 'a');
  CHECK(sha256(million.data(), million.size()) == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

void paths_that_lead_out() {
  for (const char* name : {"", "/etc/passwd", "../x", "a/../../x", "a//b", "a/", ".", "./a", "a\\b", "C:x", "a\nb"})
    CHECK(!is_inside(name));
  CHECK(!is_inside(std::string("a\0b", 3)));
  CHECK(!is_inside(std::string(201, 'a')));
  for (const char* name : {"swap.param", "swap.mlpackage/Data/weights/weight.bin", "..a", "a..", "ä"}) CHECK(is_inside(name));
}

void json_that_means_two_things() {
  auto read = [](const std::string& text) { return Json::parse(bytes_of(text), "it"); };
  REFUSES(MFS_ERROR_BUNDLE, "not JSON", read("{\"a\": 1,}"));
  REFUSES(MFS_ERROR_BUNDLE, "not JSON", read("{\"a\": NaN}"));
  REFUSES(MFS_ERROR_BUNDLE, "not JSON", read(""));
  REFUSES(MFS_ERROR_BUNDLE, "'a' twice", read("{\"a\": 1, \"a\": 2}")["a"]);
  REFUSES(MFS_ERROR_BUNDLE, "it has 'b' twice", read("{\"a\": 1, \"b\": 2, \"b\": 2}").members(3));
  REFUSES(MFS_ERROR_BUNDLE, "it lacks 'b'", read("{\"a\": 1}")["b"]);
  REFUSES(MFS_ERROR_BUNDLE, "it.a must be a whole number from 0 to 5", read("{\"a\": 6}")["a"].integer(0, 5));
  REFUSES(MFS_ERROR_BUNDLE, "whole number", read("{\"a\": 1.0}")["a"].integer(0, 5));
  REFUSES(MFS_ERROR_BUNDLE, "whole number", read("{\"a\": 18446744073709551615}")["a"].integer(-5, 5));
  REFUSES(MFS_ERROR_BUNDLE, "a number", read("{\"a\": true}")["a"].number(0, 5));
  REFUSES(MFS_ERROR_BUNDLE, "text", read("{\"a\": \"123456\"}")["a"].text(5));
  REFUSES(MFS_ERROR_BUNDLE, "a list of at most 1", read("{\"a\": [1, 2]}")["a"].items(1));
  std::string deep(200000, '[');
  REFUSES(MFS_ERROR_BUNDLE, "not JSON", read(deep));
  CHECK(shown(std::string(79, 'a') + "\u00e4b") == "'" + std::string(79, 'a') + "...'");  // no half of a letter
  JsonWriter out;
  out.open('{').member("a", "x\"\\\n").key("b").open('[').value(1).value(0.5).value(NAN).close().member("c", true).close();
  CHECK(out.text() == "{\"a\":\"x\\\"\\\\\\u000a\",\"b\":[1,0.5,null],\"c\":true}");
}

void alignment_of_landmarks() {
  // Landmarks that an affine map has made of the template are taken back exactly.
  const Affine made{{1.5, -0.4, 60, 0.3, 1.2, 35}};
  Landmarks points;
  for (size_t i = 0; i < 10; i += 2) made.apply(kTemplate.points[i] * 2, kTemplate.points[i + 1] * 2, points[i], points[i + 1]);
  const Affine found = alignment(points, kTemplate, 224).inverse();
  for (int i = 0; i < 6; i++) CHECK(std::abs(found.m[i] - made.m[i]) < 1e-4);
  Landmarks line;
  for (size_t i = 0; i < 10; i++) line[i] = double(i / 2) * (i % 2 ? 2 : 1);
  REFUSES(MFS_ERROR_ARGUMENT, "on one line", alignment(line, kTemplate, 224));
  REFUSES(MFS_ERROR_ARGUMENT, "on one line", alignment(Landmarks{}, kTemplate, 224));
  points[3] = NAN;
  REFUSES(MFS_ERROR_ARGUMENT, "not finite", alignment(points, kTemplate, 224));
  AlignmentTemplate similar = kTemplate;
  similar.solver = AlignmentTemplate::Solver::similarity;
  const Affine turned = alignment(kPoints, similar, 224);
  CHECK(turned.m[0] == turned.m[4] && turned.m[1] == -turned.m[3]);
}

// Pixels in every format, with padding between rows that must stay as it is.
struct Picture {
  static constexpr uint8_t kPadding = 0xa5;
  Picture(mfs_format format, int width, int height, Random random = {}) : format(format) {
    int columns = (width + 1) / 2, rows = (height + 1) / 2;
    view.format = format;
    view.width = width;
    view.height = height;
    int pixel = format == MFS_RGB ? 3 : 4;
    if (format <= MFS_BGRA) {
      add(0, width * pixel, height);
    } else {
      add(0, width, height);
      add(1, format == MFS_I420 ? columns : 2 * columns, rows);
      if (format == MFS_I420) add(2, columns, rows);
    }
    for (int i = 0; i < 3; i++) {
      for (size_t k = 0; k < planes[i].size(); k++) {
        if (int(k % view.row_stride[i]) < used[i]) planes[i][k] = uint8_t(random.next());
      }
    }
  }
  void add(int i, int bytes, int rows) {
    used[i] = bytes;
    view.row_stride[i] = bytes + 5;
    planes[i].assign(size_t(bytes + 5) * rows, kPadding);
    view.planes[i] = planes[i].data();
  }
  bool padding_is_whole() const {
    for (int i = 0; i < 3; i++) {
      for (size_t k = 0; k < planes[i].size(); k++) {
        if (int(k % view.row_stride[i]) >= used[i] && planes[i][k] != kPadding) return false;
      }
    }
    return true;
  }
  mfs_format format;
  mfs_frame view{};
  std::vector<uint8_t> planes[3];
  int used[3] = {};
};

void copy_pixels(const Frame& from, const Frame& to) {
  for (int c = 0; c < 3; c++) {
    bool is_half = from.is_yuv && c > 0;
    for (int y = 0; y < (is_half ? (from.height + 1) / 2 : from.height); y++) {
      for (int x = 0; x < (is_half ? (from.width + 1) / 2 : from.width); x++) to.at(c, x, y) = from.at(c, x, y);
    }
  }
}

bool same_pixels(const Frame& a, const Frame& b) {
  for (int c = 0; c < 3; c++) {
    bool is_half = a.is_yuv && c > 0;
    for (int y = 0; y < (is_half ? (a.height + 1) / 2 : a.height); y++) {
      for (int x = 0; x < (is_half ? (a.width + 1) / 2 : a.width); x++) {
        if (a.at(c, x, y) != b.at(c, x, y)) return false;
      }
    }
  }
  return true;
}

void formats_agree() {
  Outputs outputs;
  Random random;
  for (int i = 0; i < 3 * 64 * 64; i++) outputs.swapped.push_back(random.unit());
  for (int i = 0; i < 64 * 64; i++) outputs.mask.push_back(std::hypot(i % 64 - 32, i / 64 - 32) < 24 ? 1.0f : 0.0f);
  Paster paster(kMaskPaste, 64);
  // Places inside, over the edges, far outside, and a face larger than the frame; sides odd and even.
  const Landmarks far{5000, 50, 5050, 54, 5024, 80, 5002, 100, 5044, 103};
  for (auto [width, height] : {std::pair(161, 119), std::pair(32, 46), std::pair(1, 1)}) {
    for (double shift : {0.0, -80.0}) {
      for (double zoom : {1.0, 9.0}) {
        Landmarks points = kPoints;
        for (double& value : points) value = value * zoom + shift;
        if (shift < 0 && zoom == 9) points = far;
        const Affine back = alignment(points, kTemplate, 64).inverse();
        for (auto [plain, others] : {std::pair(MFS_RGB, std::vector<mfs_format>{MFS_RGBA, MFS_BGRA}),
                                     std::pair(MFS_I420, std::vector<mfs_format>{MFS_NV12, MFS_NV21})}) {
          Picture first(plain, width, height);
          std::vector<uint8_t> crop(64 * 64 * 3), same(crop.size());
          sample(Frame(first.view), back, 64, 64, Border::black, crop.data());
          std::vector<Picture> pictures;
          for (mfs_format format : others) {
            pictures.emplace_back(format, width, height);
            Picture& other = pictures.back();
            copy_pixels(Frame(first.view), Frame(other.view));
            sample(Frame(other.view), back, 64, 64, Border::black, same.data());
            CHECK(crop == same);
            paster.paste(Frame(other.view), outputs, back);
            CHECK(other.padding_is_whole());
          }
          paster.paste(Frame(first.view), outputs, back);
          for (const Picture& other : pictures) CHECK(same_pixels(Frame(first.view), Frame(other.view)));
        }
      }
    }
  }
}

void nothing_outside_the_box_changes() {
  Outputs outputs;
  outputs.swapped.assign(3 * 64 * 64, 1.0f);
  outputs.mask.assign(64 * 64, 1.0f);
  Picture picture(MFS_RGB, 200, 160), before = picture;
  const Affine back = alignment(kPoints, kTemplate, 64).inverse();
  Paster(kMaskPaste, 64).paste(Frame(picture.view), outputs, back);
  const Affine to_crop = back.inverse();
  int changed = 0, outside = 0;
  for (int y = 0; y < 160; y++) {
    for (int x = 0; x < 200; x++) {
      size_t at = size_t(y) * picture.view.row_stride[0] + size_t(x) * 3;
      if (std::memcmp(&picture.planes[0][at], &before.planes[0][at], 3) == 0) continue;
      double u, v;
      to_crop.apply(x, y, u, v);
      changed++;
      outside += !(u > -1 && v > -1 && u < 64 && v < 64);
    }
  }
  CHECK(changed > 1000 && outside == 0);
  outputs.mask.assign(64 * 64, 0.0f);
  Picture still = before;
  still.view.planes[0] = still.planes[0].data();
  Paster(kMaskPaste, 64).paste(Frame(still.view), outputs, back);
  CHECK(still.planes[0] == before.planes[0]);
  outputs.swapped.assign(3 * 64 * 64, NAN);  // a network gone wrong must not take the app with it
  outputs.mask.assign(64 * 64, NAN);
  Paster(kMaskPaste, 64).paste(Frame(still.view), outputs, back);
}

void frames_that_lie() {
  Picture good(MFS_I420, 64, 48);
  Frame whole(good.view);
  auto broken = [&](auto change) {
    mfs_frame view = good.view;
    change(view);
    return view;
  };
  REFUSES(MFS_ERROR_ARGUMENT, "format", Frame(broken([](mfs_frame& f) { f.format = 9; })));
  REFUSES(MFS_ERROR_ARGUMENT, "width", Frame(broken([](mfs_frame& f) { f.width = 0; })));
  REFUSES(MFS_ERROR_ARGUMENT, "height", Frame(broken([](mfs_frame& f) { f.height = 1 << 20; })));
  REFUSES(MFS_ERROR_ARGUMENT, "row_stride", Frame(broken([](mfs_frame& f) { f.row_stride[1] = 31; })));
  REFUSES(MFS_ERROR_ARGUMENT, "row_stride", Frame(broken([](mfs_frame& f) { f.row_stride[0] = -64; })));
  REFUSES(MFS_ERROR_ARGUMENT, "pixel_stride", Frame(broken([](mfs_frame& f) { f.pixel_stride[1] = 3; })));
  REFUSES(MFS_ERROR_ARGUMENT, "plane 2", Frame(broken([](mfs_frame& f) { f.planes[2] = nullptr; })));
  REFUSES(MFS_ERROR_ARGUMENT, "rotation", Frame(broken([](mfs_frame& f) { f.rotation = 45; })));
  REFUSES(MFS_ERROR_ARGUMENT, "colour", Frame(broken([](mfs_frame& f) { f.colour = 4; })));
}

void turning_and_mirroring() {
  // Red to the right, green downwards.
  Picture wide(MFS_RGB, 8, 4);
  for (int y = 0; y < 4; y++) {
    for (int x = 0; x < 8; x++) {
      Frame view(wide.view);
      view.at(0, x, y) = uint8_t(x);
      view.at(1, x, y) = uint8_t(y);
    }
  }
  auto at = [&](int rotation, bool mirrored, int x, int y) {
    wide.view.rotation = rotation;
    Picture upright(MFS_BGRA, rotation % 180 ? 4 : 8, rotation % 180 ? 8 : 4);
    convert(Frame(wide.view), mirrored, Frame(upright.view));
    Frame view(upright.view);
    CHECK(view.opacity[y * view.row[0] + x * view.step[0]] == 255);
    return std::pair<int, int>(view.at(0, x, y), view.at(1, x, y));
  };
  // Clockwise by 90 the bottom left comes to the top left; by 270 the top right does.
  CHECK(at(0, false, 0, 0) == std::pair(0, 0));
  CHECK(at(90, false, 0, 0) == std::pair(0, 3));
  CHECK(at(180, false, 0, 0) == std::pair(7, 3));
  CHECK(at(270, false, 0, 0) == std::pair(7, 0));
  CHECK(at(90, false, 3, 7) == std::pair(7, 0));
  CHECK(at(90, true, 0, 0) == std::pair(0, 0));
  CHECK(at(0, true, 0, 1) == std::pair(7, 1));
}

// Frames are converted in tiles; every pixel against what Frame says of it, over their edges, of odd sides too.
void tiles_join() {
  for (mfs_format format : {MFS_RGB, MFS_BGRA, MFS_I420, MFS_NV12, MFS_NV21}) {
    for (int rotation = 0; rotation < 360; rotation += 90) {
      Picture source(format, 67, 33);
      source.view.rotation = rotation;
      source.view.colour = rotation / 90;
      const Frame from(source.view);
      const int width = rotation % 180 ? 33 : 67, height = rotation % 180 ? 67 : 33;
      for (bool mirrored : {false, true}) {
        for (mfs_format shown : {MFS_RGB, MFS_RGBA, MFS_BGRA}) {
          Picture upright(shown, width, height);
          const Frame to(upright.view);
          convert(from, mirrored, to);
          int most = 0;
          for (int y = 0; y < height; y++) {
            for (int x = 0; x < width; x++) {
              int across = mirrored ? width - 1 - x : x;
              int u = rotation == 0 ? across : rotation == 90 ? y : rotation == 180 ? 66 - across : 66 - y;
              int v = rotation == 0 ? y : rotation == 90 ? 32 - across : rotation == 180 ? 32 - y : across;
              float rgb[3];
              from.rgb(u, v, rgb);
              for (int c = 0; c < 3; c++) most = std::max(most, std::abs(int(rgb[c]) - int(to.at(c, x, y))));
            }
          }
          CHECK(most <= (from.is_yuv ? 1 : 0));
          CHECK(upright.padding_is_whole());
        }
      }
    }
  }
}

void colours_survive() {
  for (mfs_colour colour : {MFS_BT601_FULL, MFS_BT601_VIDEO, MFS_BT709_FULL, MFS_BT709_VIDEO}) {
    YuvMatrix matrix(colour);
    bool is_video = colour == MFS_BT601_VIDEO || colour == MFS_BT709_VIDEO;
    float white[3] = {255, 255, 255}, yuv[3], rgb[3], red[3] = {255, 0, 0};
    matrix.to_yuv(white, yuv);
    CHECK(std::abs(yuv[0] - (is_video ? 235 : 255)) < 0.01f && std::abs(yuv[1] - 128) < 0.01f && std::abs(yuv[2] - 128) < 0.01f);
    matrix.to_yuv(red, yuv);
    CHECK(std::abs(yuv[2] - (is_video ? 240 : 255.5f)) < 0.01f);
    matrix.to_rgb(yuv[0], yuv[1], yuv[2], rgb);
    for (int c = 0; c < 3; c++) CHECK(std::abs(rgb[c] - red[c]) < 0.01f);
  }
}

void landmarks_at_rest_and_in_motion() {
  Random random;
  auto noisy = [&](double by, double noise) {
    Landmarks points = kPoints;
    for (double& value : points) value += by + noise * (random.unit() - 0.5);
    return points;
  };
  LandmarkSmoother smoother;
  double before = 0, after = 0;
  Landmarks first = noisy(0, 0);
  CHECK(smoother.smooth(first, 0) == first);
  for (int i = 1; i < 300; i++) {
    Landmarks measured = noisy(0, 2), smoothed = smoother.smooth(measured, i / 30.0);
    if (i < 100) continue;
    before += std::pow(measured[0] - kPoints[0], 2);
    after += std::pow(smoothed[0] - kPoints[0], 2);
  }
  CHECK(after < 0.35 * before);
  // A face of steady speed is followed at the distance that the header promises.
  const double speed = 100, unit = std::hypot(kPoints[2] - kPoints[0], kPoints[3] - kPoints[1]);
  LandmarkSmoother follower;
  double behind = 0;
  for (int i = 0; i < 90; i++) {
    Landmarks measured = noisy(speed * i / 30, 0);
    behind = measured[0] - follower.smooth(measured, i / 30.0)[0];
  }
  CHECK(behind > 0 && behind < unit * 1.1 / (2 * 3.1416 * LandmarkSmoother::kBeta));
  Landmarks elsewhere = noisy(500, 0);  // another face, a pause, a clock that went back: no mixture with what was
  CHECK(follower.smooth(elsewhere, 3.0) == elsewhere);
  CHECK(follower.smooth(first, 9.0) == first);
  CHECK(follower.smooth(noisy(1, 0), 8.0) == noisy(1, 0));
}

// Through the C API: what a session does by itself, and a bad measurement changes nothing.
void smoothing_for_other_runtimes() {
  mfs_smoother* smoother = nullptr;
  CHECK(mfs_smoother_create(&smoother) == MFS_OK);
  LandmarkSmoother same;
  Landmarks points = kPoints;
  for (int i = 0; i < 20; i++) {
    Landmarks measured = kPoints, smoothed;
    measured[0] += i % 3;
    CHECK(mfs_smooth(smoother, measured.data(), i / 30.0, smoothed.data()) == MFS_OK);
    CHECK(smoothed == same.smooth(measured, i / 30.0));
    points[3] = i % 2 ? NAN : INFINITY;
    CHECK(mfs_smooth(smoother, points.data(), i / 30.0, smoothed.data()) == MFS_ERROR_ARGUMENT);
  }
  Landmarks elsewhere = kPoints, in_place;
  elsewhere[0] += 9;
  in_place = elsewhere;
  mfs_smoother_reset(smoother);
  CHECK(mfs_smooth(smoother, in_place.data(), 20 / 30.0, in_place.data()) == MFS_OK && in_place == elsewhere);
  mfs_smoother_destroy(smoother);
}

void figures() {
  CHECK(percentile({4, 1, 3, 2}, 0.5) == 2.5 && percentile({7}, 0.99) == 7 && std::isnan(percentile({}, 0.5)));
  FrameStats stats;
  CHECK(std::isnan(stats.fps(2)));
  // Sixty seconds at 30, then ten at 20: the last two seconds tell of 20, the last sixty of both.
  double at = 0;
  for (int i = 0; i < 1800; i++) stats.add({0, 1, 10, 1, 12}, at += 1 / 30.0);
  for (int i = 0; i < 200; i++) stats.add({0, 1, 20, 1, 22}, at += 1 / 20.0);
  CHECK(std::abs(stats.fps(FrameStats::kRecent) - 20) < 0.6);
  CHECK(std::abs(stats.fps(FrameStats::kSustained) - (50 * 30 + 10 * 20) / 60.0) < 0.6);
  JsonWriter out;
  out.open('{');
  stats.write(out);
  Json read = Json::parse(bytes_of(out.close().text()), "figures");
  CHECK(read["frames"].integer(0, 1 << 20) == 2000);
  CHECK(read["latency_ms"]["network"]["p50"].number(0, 100) == 10 && read["latency_ms"]["total"]["p90"].number(0, 100) == 22);
}

void overlapping_boxes() {
  std::vector<std::array<float, 4>> boxes{{0, 0, 99, 99}, {5, 5, 104, 104}, {60, 0, 159, 99}, {300, 300, 310, 310}};
  CHECK((suppress(boxes, 0.4f) == std::vector<size_t>{0, 2, 3}));
}

void arrays(const std::filesystem::path& scratch) {
  std::vector<float> values{1, 2.5f, -3, 4, 5, 6};
  write_npy(scratch / "it.npy", {1, 2, 3}, values);
  Array read = read_npy(scratch, "it");
  CHECK(std::memcmp(read.floats_of({1, -1, 3}, "it"), values.data(), 24) == 0);
  REFUSES(MFS_ERROR_BUNDLE, "another type or shape", read.floats_of({6}, "it"));
  REFUSES(MFS_ERROR_BUNDLE, "another type or shape", read.doubles_of({1, 2, 3}, "it"));
  std::vector<uint8_t> file = read_file(scratch, "it.npy", 1000);
  file.pop_back();
  REFUSES(MFS_ERROR_BUNDLE, "bytes of its shape", parse_npy(file, "it"));
  auto names = [](const std::string& descr, const std::string& count, size_t bytes) {
    std::string header = "{'descr': '" + descr + "', 'fortran_order': False, 'shape': (" + count + ",)}";
    std::string text =
        "\x93NUMPY\x01" + std::string(1, 0) + char(header.size()) + std::string(1, 0) + header + std::string(bytes, 0);
    return parse_npy(bytes_of(text), "it").texts();
  };
  CHECK(names("<U2", "3", 24).size() == 3);
  REFUSES(MFS_ERROR_BUNDLE, "of type '<U0'", names("<U0", "999999999", 0));  // names without end, out of no bytes
  REFUSES(MFS_ERROR_BUNDLE, "at most 1000 names", names("<U1", "1001", 4004));
}

void heat_and_clocks(const std::filesystem::path& scratch) {
  auto put = [&](const std::string& name, const std::string& text) {
    std::filesystem::create_directories((scratch / "sys" / name).parent_path());
    std::ofstream(scratch / "sys" / name) << text << "\n";
  };
  put("class/thermal/thermal_zone0/type", "cpu-0");
  put("class/thermal/thermal_zone0/temp", "41500");
  put("class/thermal/thermal_zone1/type", "battery");
  put("class/thermal/thermal_zone1/temp", "305");
  put("class/thermal/thermal_zone2/type", "not readable");
  put("devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "1804800");
  put("devices/system/cpu/cpu1/online", "0");
  put("devices/system/cpu/cpufreq/policy0/x", "1");
  Sample sample = take_sample(1, (scratch / "sys").string());
  CHECK((sample.heat == std::map<std::string, double>{{"0 cpu-0", 41.5}, {"1 battery", 30.5}}));
  CHECK((sample.khz == std::vector<int64_t>{1804800, 0}));
}

void null_everywhere() {
  CHECK(mfs_bundle_open(nullptr, nullptr) == MFS_ERROR_ARGUMENT && std::strlen(mfs_last_error()) > 0);
  mfs_bundle* bundle = nullptr;
  CHECK(mfs_bundle_open("/nowhere", &bundle) == MFS_ERROR_BUNDLE && bundle == nullptr);
  mfs_bundle_close(nullptr);
  CHECK(mfs_bundle_size(nullptr) == 0 && mfs_bundle_has_mask(nullptr) == 0 && *mfs_bundle_json(nullptr) == 0);
  CHECK(mfs_align(nullptr, nullptr, nullptr, nullptr, nullptr) == MFS_ERROR_ARGUMENT);
  CHECK(mfs_paste(nullptr, nullptr, nullptr, nullptr, nullptr) == MFS_ERROR_ARGUMENT);
  CHECK(mfs_frame_convert(nullptr, 0, nullptr) == MFS_ERROR_ARGUMENT);
  mfs_smoother_destroy(nullptr);
  mfs_smoother_reset(nullptr);
  CHECK(mfs_smoother_create(nullptr) == MFS_ERROR_ARGUMENT);
  CHECK(mfs_smooth(nullptr, kPoints.data(), 0, nullptr) == MFS_ERROR_ARGUMENT);
  mfs_session_destroy(nullptr);
  CHECK(mfs_session_create(nullptr) == MFS_ERROR_ARGUMENT);
  mfs_session* session = nullptr;
  CHECK(mfs_session_create(&session) == MFS_OK && *mfs_last_error() == 0);
  mfs_load options{};
  CHECK(mfs_session_load(session, nullptr, &options) == MFS_ERROR_ARGUMENT);
  CHECK(mfs_session_load(nullptr, "x", nullptr) == MFS_ERROR_ARGUMENT);
  mfs_result result;
  Picture picture(MFS_RGB, 64, 64);
  CHECK(mfs_session_swap(session, &picture.view, kPoints.data(), 0, &result) == MFS_ERROR_ARGUMENT);
  char* json = nullptr;
  CHECK(mfs_session_json(session, &json) == MFS_ERROR_ARGUMENT && json == nullptr);
  CHECK(mfs_session_self_check(session, nullptr, nullptr, &json) == MFS_ERROR_ARGUMENT && json == nullptr);
  mfs_session_destroy(session);
}

// One open bundle, and several threads that align and paste with it.
void a_bundle_of_many(const char* folder) {
  mfs_bundle* bundle = nullptr;
  CHECK(mfs_bundle_open(folder, &bundle) == MFS_OK);
  const int size = mfs_bundle_size(bundle);
  auto work = [&](Picture& picture, int& failed) {
    for (int i = 0; i < 3; i++) {
      Picture crop(MFS_RGBA, size, size);
      double back[6];
      failed += mfs_align(bundle, &picture.view, kPoints.data(), &crop.view, back) != MFS_OK;
      std::vector<uint8_t> mask(size_t(size) * size, 200);
      const mfs_tensor swapped{crop.planes[0].data(), MFS_UINT8, 1, crop.view.row_stride[0], 4},
          soft{mask.data(), MFS_UINT8, 0, size, 1};
      failed += mfs_paste(bundle, &picture.view, &swapped, &soft, back) != MFS_OK;
    }
  };
  Picture before(MFS_NV21, 161, 119), one(MFS_NV21, 161, 119), two(MFS_NV21, 161, 119);
  int failed[2] = {};
  std::thread other([&] { work(one, failed[0]); });
  work(two, failed[1]);
  other.join();
  CHECK(failed[0] == 0 && failed[1] == 0);
  CHECK(one.planes[0] == two.planes[0] && one.planes[1] == two.planes[1] && one.planes[0] != before.planes[0]);
  mfs_bundle_close(bundle);
}

void a_session(const char* folder) {
  mfs_session* session = nullptr;
  CHECK(mfs_session_create(&session) == MFS_OK);
  mfs_load options{};
  options.backend = "ncnn";
  options.threads = 1;
  CHECK(mfs_session_load(session, folder, &options) == MFS_OK);

  // Frames go on while other bundles are loaded, and one that cannot be loaded changes nothing.
  std::atomic<bool> stop{false};
  std::atomic<int> frames{0}, wrong{0};
  std::thread camera([&] {
    Picture picture(MFS_NV21, 320, 240);
    for (double at = 0; !stop; at += 1 / 30.0) {
      mfs_result result;
      bool is_well = mfs_session_swap(session, &picture.view, kPoints.data(), at, &result) == MFS_OK && result.swapped == 1 &&
                     result.total_ms > 0;
      wrong += !is_well;
      frames++;
    }
  });
  CHECK(mfs_session_load(session, folder, &options) == MFS_OK);
  CHECK(mfs_session_load(session, "/nowhere", &options) == MFS_ERROR_BUNDLE);
  options.backend = "coreml";
  CHECK(mfs_session_load(session, folder, &options) == MFS_ERROR_UNSUPPORTED);
  options.backend = "ncnn";
  options.threads = 99;
  CHECK(mfs_session_load(session, folder, &options) == MFS_ERROR_ARGUMENT);
  int so_far = frames;
  while (frames < so_far + 2) {
    char* figures = nullptr;
    CHECK(mfs_session_json(session, &figures) == MFS_OK);
    mfs_string_free(figures);
  }
  stop = true;
  camera.join();
  CHECK(frames > 0 && wrong == 0);

  char* json = nullptr;
  CHECK(mfs_session_json(session, &json) == MFS_OK);
  Json said = Json::parse(bytes_of(json), "session");
  CHECK(said["backend"].text() == "ncnn" && said["frames"].integer(1, 1 << 20) <= frames);
  mfs_string_free(json);
  CHECK(mfs_session_run(session, Picture(MFS_RGB, 64, 64).planes[0].data(), 64, nullptr, nullptr) == MFS_ERROR_ARGUMENT);
  float swapped;
  CHECK(mfs_session_run(session, Picture(MFS_RGB, 64, 64).planes[0].data(), 64, &swapped, nullptr) == MFS_ERROR_ARGUMENT);
  CHECK(std::strstr(mfs_last_error(), "size is 64") != nullptr);
  mfs_result result;
  Picture picture(MFS_RGB, 320, 240);
  CHECK(mfs_session_swap(session, &picture.view, nullptr, 0, &result) == MFS_ERROR_ARGUMENT);  // there is no detector
  CHECK(std::strstr(mfs_last_error(), "no detector") != nullptr);
  mfs_session_destroy(session);
}

}  // namespace

int main(int argc, char** argv) {
  std::filesystem::path scratch = std::filesystem::temp_directory_path() /
                                  ("mfs-core-test-" + std::to_string(std::hash<std::thread::id>()(std::this_thread::get_id())));
  std::filesystem::create_directories(scratch);
  hashes();
  paths_that_lead_out();
  json_that_means_two_things();
  alignment_of_landmarks();
  formats_agree();
  nothing_outside_the_box_changes();
  frames_that_lie();
  turning_and_mirroring();
  tiles_join();
  colours_survive();
  landmarks_at_rest_and_in_motion();
  smoothing_for_other_runtimes();
  figures();
  overlapping_boxes();
  arrays(scratch);
  heat_and_clocks(scratch);
  null_everywhere();
  if (argc > 1) {
    a_bundle_of_many(argv[1]);
    a_session(argv[1]);
  }
  std::filesystem::remove_all(scratch);
  std::printf("%s\n", failures == 0 ? "all is well" : "failed");
  return failures == 0 ? 0 : 1;
}
