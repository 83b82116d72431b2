// Landmarks from frame to frame: steady while the face rests, quick when it moves.
//
// The one-euro filter (Casiez, Roussel, Vogel: 1 EUR Filter, CHI 2012), each coordinate by itself.  Speeds are in distances between
// the eyes a second, so that one setting serves all frame sizes; behind a face of steady speed it then stays about 1 / (2 pi kBeta)
// of that.
#pragma once

#include "contract.h"

namespace mfs {

class LandmarkSmoother {
 public:
  static constexpr double kMinCutoff = 1.5;      // Hz, at rest
  static constexpr double kBeta = 5.0;           // Hz more for each eye distance a second
  static constexpr double kSpeedCutoff = 1.0;    // Hz, of the speed itself
  static constexpr double kLongestGap = 0.5;     // seconds; after it nothing of before counts
  static constexpr double kFarthestStep = 0.75;  // eye distances in one frame; more is another face, or a cut

  // `seconds` is the frame's time on any steady clock.  Throws bad_argument where a landmark is not finite.
  Landmarks smooth(const Landmarks& measured, double seconds);
  void reset() { is_empty_ = true; }

 private:
  bool is_empty_ = true;
  double seconds_ = 0;
  Landmarks value_{}, speed_{};
};

}  // namespace mfs
