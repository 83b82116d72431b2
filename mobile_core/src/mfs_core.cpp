// The C API: arguments checked, exceptions turned into statuses, nothing else.
#include "mfs_core.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>

#include "engine.h"
#include "error.h"
#include "ncnn_net.h"
#include "one_euro.h"
#include "self_check.h"
#include "stats.h"

struct mfs_bundle {
  explicit mfs_bundle(const char* folder)
      : bundle(std::filesystem::path(folder)), paster(bundle.paste_back, bundle.contract.size), json(bundle.json()) {}
  const mfs::Bundle bundle;
  const mfs::Paster paster;  // to be copied: it works in place, and a bundle is for many threads
  const std::string json;
};

struct mfs_smoother {
  mfs::LandmarkSmoother smoother;
};

struct mfs_session {
  std::mutex loading;  // one load at a time; frames go on meanwhile
  std::mutex running;  // guards all below
  std::unique_ptr<mfs::Engine> engine;
  mfs::LandmarkSmoother smoother;
  mfs::FrameStats stats;
};

namespace {

thread_local std::string last_error;

void say(const char* why) noexcept {
  try {
    last_error = why;
  } catch (const std::bad_alloc&) {
    last_error = "memory ran out";  // short enough to need none
  }
}

template <class Body>
mfs_status guarded(Body body) noexcept {
  try {
    last_error.clear();
    body();
    return MFS_OK;
  } catch (const mfs::Error& error) {
    say(error.what());
    return error.status;
  } catch (const std::bad_alloc&) {
    say("memory ran out");
  } catch (const std::exception& error) {
    say(error.what());
  } catch (...) {
    say("an unknown failure");
  }
  return MFS_ERROR_RUNTIME;
}

template <class T>
T& given(T* pointer, const char* name) {
  if (pointer == nullptr) throw mfs::bad_argument(std::string(name) + " is NULL");
  return *pointer;
}

char* copied(const std::string& text) {
  char* out = static_cast<char*>(std::malloc(text.size() + 1));
  if (out == nullptr) throw std::bad_alloc();
  std::memcpy(out, text.c_str(), text.size() + 1);
  return out;
}

mfs::Landmarks landmarks_of(const double* points) {
  mfs::Landmarks out;
  std::copy_n(&given(points, "landmarks"), out.size(), out.begin());
  return out;
}

mfs::Affine affine_of(const double* back) {
  mfs::Affine out;
  std::copy_n(&given(back, "back"), 6, out.m);
  return out;
}

float from_half(uint16_t bits) {
  uint32_t wide = uint32_t(bits & 0x7fff) << 13;  // exponent and fraction in their places, the exponent's bias not yet
  if (wide >= 31u << 23) wide |= 255u << 23;      // infinite, or no number
  float magnitude;
  std::memcpy(&magnitude, &wide, sizeof magnitude);
  magnitude *= 0x1p112f;
  return bits & 0x8000 ? -magnitude : magnitude;
}

// `channels` planes of a tensor as float32 in [0, 1].
std::vector<float> read_tensor(const mfs_tensor& tensor, int channels, int size) {
  given(static_cast<const char*>(tensor.data), "tensor.data");
  if (tensor.type < MFS_UINT8 || tensor.type > MFS_FLOAT16)
    throw mfs::bad_argument("tensor.type is " + std::to_string(tensor.type));
  std::vector<float> out;
  out.reserve(size_t(channels) * size * size);
  for (int c = 0; c < channels; c++) {
    for (int y = 0; y < size; y++) {
      for (int x = 0; x < size; x++) {
        int64_t at = c * tensor.channel_stride + y * tensor.row_stride + x * tensor.pixel_stride;
        if (tensor.type == MFS_UINT8) {
          out.push_back(float(static_cast<const uint8_t*>(tensor.data)[at]) / 255.0f);
        } else if (tensor.type == MFS_FLOAT32) {
          out.push_back(static_cast<const float*>(tensor.data)[at]);
        } else {
          out.push_back(from_half(static_cast<const uint16_t*>(tensor.data)[at]));
        }
      }
    }
  }
  return out;
}

mfs::Engine& engine_of(mfs_session& session) {
  if (session.engine == nullptr) throw mfs::bad_argument("no bundle has been loaded into the session");
  return *session.engine;
}

void swap(mfs_session& session, const mfs::Frame& frame, const double* points, double seconds, mfs_result& result) {
  mfs::Engine& engine = engine_of(session);
  mfs::StageTimes ms{};
  double start = mfs::now();
  mfs::Landmarks found{};
  bool has_face = true;
  if (points != nullptr) {
    found = landmarks_of(points);
  } else {
    has_face = engine.find(frame, found);
    ms[mfs::kDetect] = (mfs::now() - start) * 1e3;
  }
  if (has_face) {
    try {
      found = session.smoother.smooth(found, seconds);
      engine.swap(frame, found, ms);
    } catch (const mfs::Error& error) {
      session.smoother.reset();
      // What a detector found on one line, or nowhere, is no face.
      if (points != nullptr || error.status != MFS_ERROR_ARGUMENT) throw;
      has_face = false;
    }
  } else {
    session.smoother.reset();
  }
  double end = mfs::now();
  ms[mfs::kTotal] = (end - start) * 1e3;
  if (has_face) session.stats.add(ms, end);
  result = {};
  result.swapped = has_face ? 1 : 0;
  std::copy(found.begin(), found.end(), result.landmarks);
  result.detect_ms = ms[mfs::kDetect];
  result.align_ms = ms[mfs::kAlign];
  result.network_ms = ms[mfs::kNetwork];
  result.paste_ms = ms[mfs::kPaste];
  result.total_ms = ms[mfs::kTotal];
}

}  // namespace

extern "C" {

const char* mfs_last_error(void) { return last_error.c_str(); }

const char* mfs_version(void) {
  static const std::string version = "mfs-core " MFS_CORE_VERSION " (" + mfs::ncnn_runtime() + ")";
  return version.c_str();
}

void mfs_string_free(char* text) { std::free(text); }

mfs_status mfs_frame_convert(const mfs_frame* from, int mirrored, mfs_frame* to) {
  return guarded([&] { mfs::convert(mfs::Frame(given(from, "from")), mirrored != 0, mfs::Frame(given(to, "to"))); });
}

mfs_status mfs_bundle_open(const char* folder, mfs_bundle** bundle) {
  return guarded([&] {
    given(bundle, "bundle");
    *bundle = new mfs_bundle(&given(folder, "folder"));
  });
}

void mfs_bundle_close(mfs_bundle* bundle) { delete bundle; }
const char* mfs_bundle_json(const mfs_bundle* bundle) { return bundle == nullptr ? "" : bundle->json.c_str(); }
int32_t mfs_bundle_size(const mfs_bundle* bundle) { return bundle == nullptr ? 0 : bundle->bundle.contract.size; }
int32_t mfs_bundle_has_mask(const mfs_bundle* bundle) { return bundle != nullptr && bundle->bundle.contract.has_mask() ? 1 : 0; }

mfs_status mfs_align(const mfs_bundle* bundle, const mfs_frame* frame, const double landmarks[10], mfs_frame* crop,
                     double back[6]) {
  return guarded([&] {
    const mfs::Bundle& b = given(bundle, "bundle").bundle;
    const mfs::Frame from(given(frame, "frame")), to(given(crop, "crop"));
    given(back, "back");
    const int size = b.contract.size;
    if (to.is_yuv || to.width != size || to.height != size)
      throw mfs::bad_argument("crop must be RGB, RGBA or BGRA of " + std::to_string(size) + "x" + std::to_string(size));
    const mfs::Affine inverse = mfs::alignment(landmarks_of(landmarks), b.alignment, size).inverse();
    std::vector<uint8_t> rgb(size_t(size) * size * 3);
    mfs::sample(from, inverse, size, size, mfs::Border::black, rgb.data());
    for (int y = 0; y < size; y++) {
      for (int x = 0; x < size; x++) {
        for (int c = 0; c < 3; c++) to.at(c, x, y) = rgb[(size_t(y) * size + x) * 3 + c];
        if (to.opacity != nullptr) to.opacity[y * to.row[0] + x * to.step[0]] = 255;
      }
    }
    std::copy_n(inverse.m, 6, back);
  });
}

mfs_status mfs_paste(const mfs_bundle* bundle, mfs_frame* frame, const mfs_tensor* swapped, const mfs_tensor* mask,
                     const double back[6]) {
  return guarded([&] {
    const mfs::Bundle& b = given(bundle, "bundle").bundle;
    const int size = b.contract.size;
    mfs::Outputs outputs;
    outputs.swapped = read_tensor(given(swapped, "swapped"), 3, size);
    if (b.contract.has_mask()) outputs.mask = read_tensor(given(mask, "mask"), 1, size);
    mfs::Paster(bundle->paster).paste(mfs::Frame(given(frame, "frame")), outputs, affine_of(back));
  });
}

mfs_status mfs_smoother_create(mfs_smoother** smoother) {
  return guarded([&] {
    given(smoother, "smoother");  // by itself: of an assignment the right side comes first
    *smoother = new mfs_smoother;
  });
}

void mfs_smoother_destroy(mfs_smoother* smoother) { delete smoother; }

void mfs_smoother_reset(mfs_smoother* smoother) {
  if (smoother != nullptr) smoother->smoother.reset();
}

mfs_status mfs_smooth(mfs_smoother* smoother, const double measured[10], double seconds, double smoothed[10]) {
  return guarded([&] {
    mfs_smoother& s = given(smoother, "smoother");
    const mfs::Landmarks points = landmarks_of(measured);
    given(smoothed, "smoothed");
    const mfs::Landmarks out = s.smoother.smooth(points, seconds);
    std::copy(out.begin(), out.end(), smoothed);
  });
}

mfs_status mfs_session_create(mfs_session** session) {
  return guarded([&] {
    given(session, "session");
    *session = new mfs_session();
  });
}

void mfs_session_destroy(mfs_session* session) { delete session; }

mfs_status mfs_session_load(mfs_session* session, const char* folder, const mfs_load* options) {
  return guarded([&] {
    mfs_session& s = given(session, "session");
    const mfs_load& o = given(options, "options");
    std::lock_guard<std::mutex> one(s.loading);
    auto bundle = std::make_shared<const mfs::Bundle>(std::filesystem::path(&given(folder, "folder")));
    mfs::NetworkOptions network{&given(o.backend, "options.backend"), o.threads, o.litert == nullptr ? "" : o.litert};
    auto fresh = std::make_unique<mfs::Engine>(bundle, network, o.detector == nullptr ? "" : o.detector);
    {
      std::lock_guard<std::mutex> between_frames(s.running);
      s.engine.swap(fresh);
      s.stats = {};
    }
    // The old engine, now in `fresh`, is closed here: no frame waits for that.
  });
}

mfs_status mfs_session_swap(mfs_session* session, mfs_frame* frame, const double* landmarks, double seconds, mfs_result* result) {
  return guarded([&] {
    mfs_session& s = given(session, "session");
    const mfs::Frame view(given(frame, "frame"));
    given(result, "result");
    std::lock_guard<std::mutex> one(s.running);
    swap(s, view, landmarks, seconds, *result);
  });
}

mfs_status mfs_session_run(mfs_session* session, const uint8_t* rgb, int32_t size, float* swapped, float* mask) {
  return guarded([&] {
    mfs_session& s = given(session, "session");
    given(rgb, "rgb");
    given(swapped, "swapped");
    std::lock_guard<std::mutex> one(s.running);
    const int wanted = engine_of(s).bundle().contract.size;
    if (size != wanted) throw mfs::bad_argument("size is " + std::to_string(size) + ", this bundle's is " + std::to_string(wanted));
    mfs::Outputs outputs;
    engine_of(s).network().run(rgb, outputs);
    std::copy(outputs.swapped.begin(), outputs.swapped.end(), swapped);
    if (mask != nullptr) std::copy(outputs.mask.begin(), outputs.mask.end(), mask);
  });
}

mfs_status mfs_session_json(mfs_session* session, char** json) {
  return guarded([&] {
    mfs_session& s = given(session, "session");
    given(json, "json");
    std::lock_guard<std::mutex> one(s.running);
    mfs::JsonWriter out;
    out.open('{');
    engine_of(s).write(out);
    s.stats.write(out);
    *json = copied(out.close().text());
  });
}

mfs_status mfs_session_self_check(mfs_session* session, const char* folder, const char* dump, char** json) {
  return guarded([&] {
    mfs_session& s = given(session, "session");
    given(folder, "folder");
    given(json, "json");
    std::lock_guard<std::mutex> one(s.running);
    mfs::SelfCheck check = mfs::self_check(engine_of(s), folder, dump == nullptr ? "" : dump);
    mfs::JsonWriter out;
    check.write(out);
    *json = copied(out.text());
    if (!check.complaints.empty()) throw mfs::Error(MFS_ERROR_PARITY, check.complaints.front());
  });
}

}  // extern "C"
