// An engine against its bundle's reference tensors: what PyTorch made of the same crops, and the exporter of the same photo.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "engine.h"
#include "npy.h"

namespace mfs {

struct CaseFigures {
  std::string name;
  double swapped_psnr_db, swapped_max, mask_mean;  // mask_mean is NaN without a mask
};

struct SelfCheck {
  std::vector<CaseFigures> cases;
  // Of the first case, where it was cut from a photo; -1 where it was not.  Levels of 255.
  int align_max = -1;                   // the aligned crop against the exporter's
  int paste_max = -1;                   // the reference's outputs pasted here, against the exporter's finished photo
  double composite_psnr_db = -1;        // this engine's outputs pasted here, against the exporter's finished photo
  std::vector<std::string> complaints;  // what is outside the recipe's tolerance; empty when all is well

  void write(JsonWriter& out) const;  // as an object
};

// `folder` holds reference.npz unpacked: case.npy, target_rgb.npy and so on.  Where `dump` is given, the engine's outputs are
// written there as (N, C, S, S) float32 .npy files, by the names of the contract, for `mfs parity`.
SelfCheck self_check(Engine& engine, const std::filesystem::path& folder, const std::filesystem::path& dump = {});

// The reference's photo, frame_rgb (H, W, 3), as a frame: a view of its bytes.
Frame frame_of(Array& photo);

}  // namespace mfs
