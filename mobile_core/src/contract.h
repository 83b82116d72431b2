// What goes into a network and what comes out, how its crops are aligned and pasted back: as the manifest says it.
#pragma once

#include <array>
#include <string>
#include <variant>
#include <vector>

#include "json.h"

namespace mfs {

using Landmarks = std::array<double, 10>;  // x, y of the eyes, the nose tip, the mouth corners; image left first

struct TensorSpec {
  std::string name;
  std::array<int, 4> shape;  // (1, C, S, S)
  double low, high;          // range of its values
  std::string colour;        // "RGB" or "mask"
};

struct Contract {
  std::string arch;
  int size;  // S, the side of a crop in pixels
  TensorSpec input;
  TensorSpec swapped;
  std::vector<TensorSpec> mask;  // one or none
  std::string sha256;            // of its JSON without spaces, keys sorted: what a report names it by

  bool has_mask() const { return !mask.empty(); }
};

// Where the five landmarks lie in an aligned crop of `base` pixels; other sizes scale it.
struct AlignmentTemplate {
  enum class Solver { affine, similarity };
  double base;
  Landmarks points;
  Solver solver;
};

// How a network's mask is hardened, softened at its edge, and kept off the crop's border.  Lengths in pixels of the crop.
struct MaskPaste {
  double threshold;
  int morph_kernel, dilations, erosions, blur_kernel, border, border_blur_kernel;
};

// A fixed soft ellipse, for a network without a mask.  Lengths are shares of the crop's side.
struct EllipsePaste {
  double centre_x, centre_y, radius_x, radius_y, edge;
};

using PasteBack = std::variant<MaskPaste, EllipsePaste>;

// Each throws bad_bundle, naming the entry, or unsupported where this version would do something else.  `schema`: the manifest's.
Contract read_contract(const Json& contract);
AlignmentTemplate read_alignment(const Json& alignment, int64_t schema);
PasteBack read_paste_back(const Json& paste_back, const Contract& contract, int64_t schema);

}  // namespace mfs
