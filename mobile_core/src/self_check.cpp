#include "self_check.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "error.h"

namespace mfs {
namespace {

constexpr double kIdenticalDb = 200;  // what equal arrays count as, as in the exporter's figures
constexpr int kMostLevels = 1;

double psnr_db(double squares, size_t count, double peak) {
  double mean = squares / double(count);
  if (mean == 0) return kIdenticalDb;
  double db = 10 * std::log10(peak * peak / mean);
  return db > kIdenticalDb ? kIdenticalDb : db;  // NaN stays NaN
}

CaseFigures compare(const std::string& name, const Outputs& got, const float* swapped, const float* mask) {
  double squares = 0, largest = 0, sum = 0;
  for (size_t i = 0; i < got.swapped.size(); i++) {
    double off = std::abs(double(got.swapped[i]) - double(swapped[i]));
    squares += off * off;
    largest = off > largest || std::isnan(off) ? off : largest;
    if (std::isnan(largest)) break;
  }
  for (size_t i = 0; i < got.mask.size(); i++) sum += std::abs(double(got.mask[i]) - double(mask[i]));
  return {name, psnr_db(squares, got.swapped.size(), 1), largest, mask == nullptr ? NAN : sum / double(got.mask.size())};
}

int most_levels(const uint8_t* a, const uint8_t* b, size_t count) {
  int most = 0;
  for (size_t i = 0; i < count; i++) most = std::max(most, std::abs(int(a[i]) - int(b[i])));
  return most;
}

class Complaints {
 public:
  explicit Complaints(std::vector<std::string>& list) : list_(list) {}
  // Written so that NaN is a complaint.
  void at_most(const std::string& what, double value, double limit) { add(value <= limit, what, value, limit); }
  void at_least(const std::string& what, double value, double limit) { add(value >= limit, what, value, limit); }

 private:
  void add(bool holds, const std::string& what, double value, double limit) {
    if (holds) return;
    char figures[80];
    std::snprintf(figures, sizeof figures, " is %.4g, limit %.4g", value, limit);
    list_.push_back(what + figures);
  }
  std::vector<std::string>& list_;
};

// What rounding `swapped` to bytes may cost on top of the recipe: half a level, 58.9 dB on even values.
Recipe gate_of(const Engine& engine, bool gives_pixels) {
  Recipe gate = engine.bundle().recipes.at(engine.recipe());
  if (gives_pixels) {
    gate.swapped_psnr_db = -10 * std::log10(std::pow(10, -gate.swapped_psnr_db / 10) + std::pow(10, -58.9 / 10));
    gate.swapped_max += 0.5 / 255;
  }
  return gate;
}

}  // namespace

Frame frame_of(Array& photo) {
  photo.bytes_of({-1, -1, 3}, "frame_rgb");
  if (photo.shape[0] > Frame::kLargestSide || photo.shape[1] > Frame::kLargestSide || photo.bytes.empty())
    throw bad_bundle("the reference's frame_rgb is no frame: " + std::to_string(photo.shape[1]) + "x" +
                     std::to_string(photo.shape[0]));
  mfs_frame view{};
  view.format = MFS_RGB;
  view.planes[0] = photo.bytes.data();
  view.height = int32_t(photo.shape[0]);
  view.width = int32_t(photo.shape[1]);
  view.row_stride[0] = view.width * 3;
  return Frame(view);
}

SelfCheck self_check(Engine& engine, const std::filesystem::path& folder, const std::filesystem::path& dump) {
  const Contract& contract = engine.bundle().contract;
  const int64_t size = contract.size;
  const size_t pixels = size_t(size * size);
  std::vector<std::string> names = read_npy(folder, "case").texts();
  const int64_t n = int64_t(names.size());
  if (n < 1) throw bad_bundle("the reference has no cases");
  const Array target = read_npy(folder, "target_rgb"), swapped = read_npy(folder, "swapped");
  const Array mask = contract.has_mask() ? read_npy(folder, "mask") : Array{};
  const uint8_t* crops = target.bytes_of({n, size, size, 3}, "target_rgb");
  const float* want_swapped = swapped.floats_of({n, 3, size, size}, "swapped");
  const float* want_mask = contract.has_mask() ? mask.floats_of({n, 1, size, size}, "mask") : nullptr;

  SelfCheck out;
  Complaints complaints(out.complaints);
  const Recipe gate = gate_of(engine, engine.network().gives_pixels);
  std::vector<float> all_swapped, all_masks;
  Outputs first;
  for (size_t i = 0; i < size_t(n); i++) {
    Outputs got;
    engine.network().run(crops + i * pixels * 3, got);
    CaseFigures figures =
        compare(names[i], got, want_swapped + i * pixels * 3, want_mask == nullptr ? nullptr : want_mask + i * pixels);
    out.cases.push_back(figures);
    if (names[i] != "noise" || !gate.is_static()) {  // integer ranges cannot hold noise
      complaints.at_least("swapped_psnr_db on " + figures.name, figures.swapped_psnr_db, gate.swapped_psnr_db);
      complaints.at_most("swapped_max on " + figures.name, figures.swapped_max, gate.swapped_max);
      if (want_mask != nullptr) complaints.at_most("mask_mean on " + figures.name, figures.mask_mean, gate.mask_mean);
    }
    all_swapped.insert(all_swapped.end(), got.swapped.begin(), got.swapped.end());
    all_masks.insert(all_masks.end(), got.mask.begin(), got.mask.end());
    if (i == 0) first = got;
  }
  if (!dump.empty()) {
    std::error_code error;
    std::filesystem::create_directories(dump, error);  // where that fails, so does what follows, and says so
    write_npy(dump / (contract.swapped.name + ".npy"), {n, 3, size, size}, all_swapped);
    if (contract.has_mask()) write_npy(dump / (contract.mask[0].name + ".npy"), {n, 1, size, size}, all_masks);
  }
  if (!has_npy(folder, "frame_rgb")) return out;

  const Array frame = read_npy(folder, "frame_rgb"), composite = read_npy(folder, "composite_rgb"),
              matrix = read_npy(folder, "back_matrix");
  Array canvas = frame;
  const Frame view = frame_of(canvas);
  const uint8_t* want = composite.bytes_of(frame.shape, "composite_rgb");
  Affine back;
  std::copy_n(matrix.doubles_of({2, 3}, "back_matrix"), 6, back.m);
  if (has_npy(folder, "landmarks")) {
    Landmarks points;
    std::copy_n(read_npy(folder, "landmarks").doubles_of({5, 2}, "landmarks"), 10, points.begin());
    std::vector<uint8_t> crop(pixels * 3);
    sample(view, alignment(points, engine.bundle().alignment, contract.size).inverse(), contract.size, contract.size, Border::black,
           crop.data());
    out.align_max = most_levels(crop.data(), crops, crop.size());
    complaints.at_most("align_max", out.align_max, kMostLevels);
  }
  Outputs reference;
  reference.swapped.assign(want_swapped, want_swapped + pixels * 3);
  if (want_mask != nullptr) reference.mask.assign(want_mask, want_mask + pixels);
  engine.paster().paste(view, reference, back);
  const std::vector<uint8_t>& pixels_now = canvas.bytes;
  out.paste_max = most_levels(pixels_now.data(), want, pixels_now.size());
  complaints.at_most("paste_max", out.paste_max, kMostLevels);
  std::copy(frame.bytes.begin(), frame.bytes.end(), canvas.bytes.begin());
  engine.paster().paste(view, first, back);
  double squares = 0;
  for (size_t i = 0; i < pixels_now.size(); i++) squares += std::pow(int(pixels_now[i]) - int(want[i]), 2);
  out.composite_psnr_db = psnr_db(squares, pixels_now.size(), 255);
  return out;
}

void SelfCheck::write(JsonWriter& out) const {
  out.open('{').key("cases").open('[');
  for (const CaseFigures& figures : cases) {
    out.open('{').member("case", figures.name).member("swapped_psnr_db", figures.swapped_psnr_db);
    out.member("swapped_max", figures.swapped_max).member("mask_mean", figures.mask_mean).close();
  }
  out.close();
  if (align_max >= 0) out.member("align_max", align_max);
  if (paste_max >= 0) out.member("paste_max", paste_max).member("composite_psnr_db", composite_psnr_db);
  out.key("complaints").open('[');
  for (const std::string& line : complaints) out.value(line);
  out.close().close();
}

}  // namespace mfs
