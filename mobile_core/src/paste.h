// A swapped crop back into the frame it came from: within the box of the face only, as the exporter does it.
#pragma once

#include <vector>

#include "align.h"

namespace mfs {

// A network's outputs: values in [0, 1].
struct Outputs {
  std::vector<float> swapped;  // (3, S, S) RGB
  std::vector<float> mask;     // (S, S); empty where the network gives none
};

class Paster {
 public:
  Paster(const PasteBack& paste, int size);

  // Weights of the swapped crop, (S, S), of the network's mask: hard inside, a soft edge, nothing at the border.  The reference is
  // valid until the next call.
  const std::vector<float>& alpha(const std::vector<float>& mask);

  // Blends in place.  RGB values are cut off to bytes, as the original does; YUV values are rounded.  `back` leads from crop to
  // frame.
  void paste(const Frame& frame, const Outputs& outputs, const Affine& back);

 private:
  void soften(const std::vector<float>& mask, const MaskPaste& paste);

  PasteBack paste_;
  int size_;
  std::vector<float> border_;  // of MaskPaste
  std::vector<float> alpha_, scratch_;
};

}  // namespace mfs
