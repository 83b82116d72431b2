// mfs-bench-device: is this bundle right on this machine, and how fast is it?  One JSON object on stdout.
//
// Exit codes as the mfs command has them: 0, 1 a bug, 2 usage, 5 something is missing here, 6 a runtime failed, 7 parity, 8 the
// bundle.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>

#include "engine.h"
#include "error.h"
#include "host_info.h"
#include "npy.h"
#include "self_check.h"

namespace {

using namespace mfs;

constexpr const char* kUsage =
    "usage: mfs-bench-device --bundle DIR [--backend ncnn|tflite] [--reference DIR] [--dump DIR] [--threads N]\n"
    "                        [--warmup N] [--runs N] [--sustained SECONDS] [--litert libLiteRt.so] [--detector DIR]\n"
    "\n"
    "  --reference  reference.npz unpacked into a folder: outputs are held against it, alignment and paste-back too\n"
    "  --dump       writes the network's outputs on the reference's crops there, as .npy files\n"
    "  --runs       whole frames to be timed one by one, after --warmup (defaults 50, 10)\n"
    "  --sustained  seconds of frames without a pause, with temperatures and clocks beside (default 0: none)\n";

struct Usage : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Options {
  std::string bundle, reference, dump, detector;
  NetworkOptions network{"ncnn", 1, ""};
  int warmup = 10, runs = 50;
  double sustained = 0;
};

double number_of(const std::string& name, const std::string& text, double low, double high) {
  char* end = nullptr;
  double value = std::strtod(text.c_str(), &end);
  if (text.empty() || *end != '\0' || !(value >= low && value <= high)) {
    char range[60];
    std::snprintf(range, sizeof range, "%g to %g", low, high);
    throw Usage(name + " " + shown(text) + ": a number from " + range + " is needed");
  }
  return value;
}

int whole_of(const std::string& name, const std::string& text, int low, int high) {
  double value = number_of(name, text, low, high);
  if (value != int(value)) throw Usage(name + " " + shown(text) + ": a whole number is needed");
  return int(value);
}

Options parse(int argc, char** argv) {
  Options out;
  for (int i = 1; i < argc; i += 2) {
    std::string name = argv[i];
    if (name == "--help") throw Usage("");
    if (i + 1 == argc) throw Usage(name + " needs a value");
    std::string value = argv[i + 1];
    if (name == "--bundle") {
      out.bundle = value;
    } else if (name == "--backend") {
      out.network.backend = value;
    } else if (name == "--reference") {
      out.reference = value;
    } else if (name == "--dump") {
      out.dump = value;
    } else if (name == "--litert") {
      out.network.litert = value;
    } else if (name == "--detector") {
      out.detector = value;
    } else if (name == "--threads") {
      out.network.threads = whole_of(name, value, 1, 16);
    } else if (name == "--warmup") {
      out.warmup = whole_of(name, value, 0, 100000);
    } else if (name == "--runs") {
      out.runs = whole_of(name, value, 0, 1000000);
    } else if (name == "--sustained") {
      out.sustained = number_of(name, value, 0, 86400);
    } else {
      throw Usage("there is no option " + shown(name));
    }
  }
  if (out.bundle.empty()) throw Usage("--bundle DIR is needed");
  if (!out.dump.empty() && out.reference.empty()) throw Usage("--dump needs --reference: it is of the reference's crops");
  return out;
}

// A frame to time on: the reference's photo and its landmarks, or a grey 720p frame with a face of half its height.
struct Scene {
  Array photo{"|u1", {720, 1280, 3}, {}};
  Landmarks landmarks{};
  std::string name = "grey";

  Scene(const Engine& engine, const std::string& reference) {
    if (!reference.empty() && has_npy(reference, "frame_rgb") && has_npy(reference, "landmarks")) {
      photo = read_npy(reference, "frame_rgb");
      std::copy_n(read_npy(reference, "landmarks").doubles_of({5, 2}, "landmarks"), 10, landmarks.begin());
      name = "reference";
      return;
    }
    photo.bytes.assign(photo.count(), 128);
    const AlignmentTemplate& at = engine.bundle().alignment;
    double height = double(photo.shape[0]), width = double(photo.shape[1]), scale = height / 2 / at.base;
    for (size_t i = 0; i < 10; i += 2) {
      landmarks[i] = width / 4 + at.points[i] * scale;
      landmarks[i + 1] = height / 4 + at.points[i + 1] * scale;
    }
  }
};

StageTimes frame(Engine& engine, const Scene& scene, Scene& canvas) {
  canvas.photo.bytes = scene.photo.bytes;  // a camera's next frame; not timed
  StageTimes ms{};
  double start = now();
  Landmarks found = scene.landmarks;
  const Frame view = frame_of(canvas.photo);
  if (engine.detector() != nullptr) {
    engine.find(view, found);
    ms[kDetect] = (now() - start) * 1e3;
  }
  engine.swap(view, scene.landmarks, ms);
  ms[kTotal] = (now() - start) * 1e3;
  return ms;
}

void write_stages(JsonWriter& out, const std::vector<StageTimes>& frames) {
  out.key("latency_ms").open('{');
  for (int stage = 0; stage < kStages; stage++) {
    std::vector<double> values;
    for (const StageTimes& ms : frames) values.push_back(ms[stage]);
    write_distribution(out, kStageNames[stage], values);
  }
  out.close();
}

// Frames without a pause, in parts of a second: does it stay as fast once the machine is warm?
void sustained(JsonWriter& out, Engine& engine, const Scene& scene, Scene& canvas, double seconds) {
  double start = now(), part = start;
  int64_t total = 0, in_part = 0;
  std::vector<Sample> samples{take_sample(0)};
  std::vector<double> fps;
  for (double at = start; at - start < seconds; at = now()) {
    frame(engine, scene, canvas);
    total++;
    in_part++;
    double done = now();
    if (done - part >= 1) {
      fps.push_back(double(in_part) / (done - part));
      samples.push_back(take_sample(done - start));
      part = done;
      in_part = 0;
    }
  }
  double elapsed = now() - start;
  out.key("sustained").open('{').member("seconds", elapsed).member("frames", total).member("fps", double(total) / elapsed);
  write_distribution(out, "fps_by_second", fps);
  out.key("samples").open('[');
  for (const Sample& sample : samples) write_sample(out, sample);
  out.close().close();
}

int run(const Options& options) {
  double start = now();
  auto bundle = std::make_shared<const Bundle>(std::filesystem::path(options.bundle));
  Engine engine(bundle, options.network, options.detector);
  double opened = now();
  SelfCheck check;
  if (!options.reference.empty()) check = self_check(engine, options.reference, options.dump);

  Scene scene(engine, options.reference), canvas = scene;
  std::vector<StageTimes> frames;
  for (int i = 0; i < options.warmup; i++) frame(engine, scene, canvas);
  for (int i = 0; i < options.runs; i++) frames.push_back(frame(engine, scene, canvas));

  JsonWriter out;
  out.open('{').member("schema", 1).member("tool", mfs_version());
  out.key("machine").open('{');
  write_host_info(out);
  out.close();
  engine.write(out);
  out.member("open_ms", (opened - start) * 1e3).member("warmup", options.warmup).member("runs", options.runs);
  out.key("frame")
      .open('{')
      .member("name", scene.name)
      .member("width", scene.photo.shape[1])
      .member("height", scene.photo.shape[0])
      .close();
  if (!frames.empty()) write_stages(out, frames);
  if (options.sustained > 0) sustained(out, engine, scene, canvas, options.sustained);
  out.key("parity");
  if (options.reference.empty()) {
    out.null();
  } else {
    check.write(out);
  }
  std::printf("%s\n", out.close().text().c_str());
  if (check.complaints.empty()) return 0;
  throw mfs::Error(MFS_ERROR_PARITY, check.complaints.front());
}

int exit_code(mfs_status status) {
  switch (status) {
    case MFS_ERROR_ARGUMENT:
      return 2;
    case MFS_ERROR_UNSUPPORTED:
      return 5;
    case MFS_ERROR_RUNTIME:
      return 6;
    case MFS_ERROR_PARITY:
      return 7;
    case MFS_ERROR_BUNDLE:
      return 8;
    default:
      return 1;
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(parse(argc, argv));
  } catch (const Usage& error) {
    if (*error.what() == '\0') {  // it was asked for
      std::printf("%s", kUsage);
      return 0;
    }
    std::fprintf(stderr, "error: %s\n%s", error.what(), kUsage);
    return 2;
  } catch (const mfs::Error& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return exit_code(error.status);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
}
