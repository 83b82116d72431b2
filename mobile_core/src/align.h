// From five landmarks to an aligned crop: the same least-squares fit, and the same interpolation, as the exporter's.
#pragma once

#include <vector>

#include "contract.h"
#include "frame.h"

namespace mfs {

// x' = m[0] x + m[1] y + m[2], y' = m[3] x + m[4] y + m[5]; pixel centres are at whole numbers.
struct Affine {
  double m[6];
  Affine inverse() const;  // throws bad_argument where there is none
  void apply(double x, double y, double& u, double& v) const {
    u = m[0] * x + m[1] * y + m[2];
    v = m[3] * x + m[4] * y + m[5];
  }
};

// Frame pixels to pixels of a crop of `size`, rounded to float32 as the exporter does.  Throws bad_argument where the landmarks lie
// on one line or are not finite.
Affine alignment(const Landmarks& landmarks, const AlignmentTemplate& at, int size);

enum class Border { black, nearest };  // what lies outside the frame

// Each pixel of the target is the frame at `to_frame` of it, bilinear in float32 as in OpenCV 5.  `rgb` is (height, width, 3),
// rounded.
void sample(const Frame& frame, const Affine& to_frame, int width, int height, Border border, uint8_t* rgb);

}  // namespace mfs
