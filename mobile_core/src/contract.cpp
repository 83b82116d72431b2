#include "contract.h"

#include "error.h"
#include "sha256.h"

namespace mfs {
namespace {

constexpr int kLargestCrop = 1024;

TensorSpec read_spec(const Json& spec, int size) {
  TensorSpec out;
  out.name = spec["name"].text(40);
  if (out.name.empty() || out.name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_") != std::string::npos) {
    throw bad_bundle(spec.place() + ".name is " + shown(out.name) + ", must be of a-z, 0-9 and _");
  }
  out.colour = spec["colour"].text(20);
  if (out.colour != "RGB" && out.colour != "mask") {
    throw unsupported(spec.place() + ".colour is " + shown(out.colour) + ", this version knows RGB and mask");
  }
  std::vector<Json> sides = spec["shape"].items(4);
  const std::array<int, 4> wanted = {1, out.colour == "RGB" ? 3 : 1, size, size};
  if (sides.size() != 4) throw bad_bundle(spec.place() + ".shape must have four sides");
  for (size_t i = 0; i < 4; i++) out.shape[i] = int(sides[i].integer(wanted[i], wanted[i]));
  out.low = spec["low"].number(-1e6, 1e6);
  out.high = spec["high"].number(-1e6, 1e6);
  if (out.low != 0 || out.high != 1) throw unsupported(spec.place() + ": this version knows values in [0, 1] only");
  return out;
}

int odd(const Json& kernel) {
  int found = int(kernel.integer(1, 63));
  if (found % 2 == 0) throw bad_bundle(kernel.place() + " is " + std::to_string(found) + ", must be odd");
  return found;
}

// What an entry says in words, and this version does; of the manifest since schema 2.
struct Rule {
  const char* key;
  const char* words;
};

constexpr Rule kAlignment[] = {
    {"matrix", "float32"},
    {"interpolation", "bilinear"},
    {"rounding", "nearest, ties to even"},
};
constexpr Rule kPasteBack[] = {
    {"interpolation", "bilinear"},
    {"blend", "255 * swapped * alpha + frame * (1 - alpha)"},
    {"rounding", "toward zero, of what is clipped to [0, 255]"},
};
constexpr Rule kMaskPaste[] = {
    {"kind", "mask"},
    {"threshold_rule", "1 where mask > threshold, else mask"},
    {"morph_shape", "square"},
    {"morph_border", "pixels outside the crop do not count"},
    {"blur", "mean over a square"},
    {"blur_border", "mirrored, the outermost pixel not repeated"},
    {"border_rule", "alpha * blur(0 in the border pixels along each side, 1 inside)"},
};
constexpr Rule kEllipsePaste[] = {
    {"kind", "ellipse"},
    {"ellipse_rule",
     "clip((1 - hypot((x - centre[0]) / radii[0], (y - centre[1]) / radii[1])) / edge, 0, 1) with x = (column + 0.5) / size, "
     "y = (row + 0.5) / size"},
};
const std::vector<std::string> kLandmarks = {"left eye", "right eye", "nose tip", "left mouth corner", "right mouth corner"};
const std::vector<std::string> kMaskSteps = {"threshold", "dilate", "erode", "blur", "border", "warp", "blend", "round"};
const std::vector<std::string> kEllipseSteps = {"ellipse", "warp", "blend", "round"};

[[noreturn]] void unknown(const Json& entry, const std::string& words) {
  throw unsupported(entry.place() + " is " + shown(words) + ", which this version does not do");
}

template <size_t N>
void check(const Json& object, const Rule (&rules)[N]) {
  for (const Rule& rule : rules) {
    Json entry = object[rule.key];
    if (std::string words = entry.text(); words != rule.words) unknown(entry, words);
  }
}

void check(const Json& list, const std::vector<std::string>& wanted) {
  std::string words;
  std::vector<Json> items = list.items(32);
  bool fits = items.size() == wanted.size();
  for (size_t i = 0; i < items.size(); i++) {
    std::string word = items[i].text(40);
    fits = fits && word == wanted[i];
    words += (words.empty() ? "" : ", ") + word;
  }
  if (!fits) unknown(list, words);
}

void check_black(const Json& outside) {
  if (double value = outside.number(0, 255); value != 0) unknown(outside, std::to_string(value));
}

}  // namespace

Contract read_contract(const Json& contract) {
  Contract out;
  out.arch = contract["arch"].text(40);
  out.size = int(contract["size"].integer(32, kLargestCrop));
  out.input = read_spec(contract["input"], out.size);
  std::vector<Json> outputs = contract["outputs"].items(2);
  if (outputs.empty()) throw bad_bundle(contract.place() + ".outputs is empty");
  out.swapped = read_spec(outputs[0], out.size);
  if (outputs.size() == 2) out.mask.push_back(read_spec(outputs[1], out.size));
  bool fits = out.input.colour == "RGB" && out.swapped.colour == "RGB" && (!out.has_mask() || out.mask[0].colour == "mask");
  if (!fits) throw unsupported(contract.place() + ": this version knows one RGB input, and as outputs RGB and at most one mask");
  if (out.input.name == out.swapped.name || (out.has_mask() && out.mask[0].name == out.swapped.name)) {
    throw bad_bundle(contract.place() + " names two tensors " + shown(out.swapped.name));
  }
  std::string written = contract.written();
  out.sha256 = mfs::sha256(written.data(), written.size());
  return out;
}

AlignmentTemplate read_alignment(const Json& alignment, int64_t schema) {
  AlignmentTemplate out;
  out.base = alignment["base"].number(1, 4096);
  std::vector<Json> points = alignment["points"].items(5);
  if (points.size() != 5) throw bad_bundle(alignment.place() + ".points must be five");
  for (size_t i = 0; i < 5; i++) {
    std::vector<Json> pair = points[i].items(2);
    if (pair.size() != 2) throw bad_bundle(points[i].place() + " must be x, y");
    for (size_t k = 0; k < 2; k++) out.points[2 * i + k] = pair[k].number(-4096, 4096);
  }
  std::string solver = alignment["solver"].text();
  if (solver == "least-squares affine, 6 degrees of freedom") {
    out.solver = AlignmentTemplate::Solver::affine;
  } else if (solver == "least-squares similarity, 4 degrees of freedom") {
    out.solver = AlignmentTemplate::Solver::similarity;
  } else {
    throw unsupported(alignment.place() + ".solver is " + shown(solver) + ", which this version does not know");
  }
  if (schema >= 2) {
    check(alignment["landmarks"], kLandmarks);
    check(alignment, kAlignment);
    check_black(alignment["outside"]);
  }
  return out;
}

PasteBack read_paste_back(const Json& paste, const Contract& contract, int64_t schema) {
  if (schema >= 2) {
    check(paste["steps"], contract.has_mask() ? kMaskSteps : kEllipseSteps);
    if (contract.has_mask()) {
      check(paste, kMaskPaste);
    } else {
      check(paste, kEllipsePaste);
    }
    check(paste, kPasteBack);
    check_black(paste["outside"]);
  }
  if (contract.has_mask()) {
    MaskPaste out;
    out.threshold = paste["threshold"].number(0, 1);
    out.morph_kernel = odd(paste["morph_kernel"]);
    out.dilations = int(paste["dilations"].integer(0, 8));
    out.erosions = int(paste["erosions"].integer(0, 8));
    out.blur_kernel = odd(paste["blur_kernel"]);
    out.border = int(paste["border"].integer(1, (contract.size - 1) / 2));
    out.border_blur_kernel = odd(paste["border_blur_kernel"]);
    return out;
  }
  EllipsePaste out;
  std::vector<Json> centre = paste["centre"].items(2), radii = paste["radii"].items(2);
  if (centre.size() != 2 || radii.size() != 2) throw bad_bundle(paste.place() + ": centre and radii must be pairs");
  out.centre_x = centre[0].number(0, 1);
  out.centre_y = centre[1].number(0, 1);
  out.radius_x = radii[0].number(1e-3, 2);
  out.radius_y = radii[1].number(1e-3, 2);
  out.edge = paste["edge"].number(1e-3, 1);
  return out;
}

}  // namespace mfs
