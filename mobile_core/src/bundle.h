// A bundle on disk, checked before anything of it is used.
//
// Trusted: nothing.  The manifest is bounded in size and form; files are named by it, lie inside the folder, are regular, and have
// the size and SHA-256 it says.  What is loaded is hashed again from the very bytes that are handed on.  Files that the manifest
// does not name are never read.  A hash shows damage, not who wrote the bundle: what a stranger made whole is a stranger's.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "contract.h"

namespace mfs {

struct ArtifactTensor {
  std::string name, dtype;
  std::vector<int> shape;
};

struct Artifact {
  std::string backend;  // "ncnn", "tflite", ...
  std::vector<std::string> files;
  std::string layout;  // "CHW", "NCHW", "NHWC"
  std::string recipe;
  std::vector<ArtifactTensor> inputs, outputs;

  const ArtifactTensor& tensor(const std::string& name) const;  // throws bad_bundle
};

// How far an artifact may be from PyTorch, and what its recipe computes in; see the manifest's `recipes`.
struct Recipe {
  std::string weights, activations;
  double swapped_psnr_db, swapped_max, mask_mean;
  bool is_static() const { return activations.rfind("int", 0) == 0; }
};

struct Bundle {
  static constexpr uint64_t kLargestFile = 1 << 28;

  explicit Bundle(const std::filesystem::path& folder);

  bool holds(const std::string& file) const { return files_.count(file) != 0; }
  std::vector<uint8_t> load(const std::string& file) const;
  const Artifact& artifact(const std::string& backend) const;  // throws bad_argument, naming those there are

  std::string name;  // of the folder
  Contract contract;
  AlignmentTemplate alignment;
  PasteBack paste_back;
  std::map<std::string, Artifact> artifacts;
  std::map<std::string, Recipe> recipes;
  std::string label, disclosure, manifest_sha256;

  std::string json() const;  // see mfs_bundle_json

 private:
  struct File {
    uint64_t bytes;
    std::string sha256;
  };
  void read(const Json& manifest);

  std::filesystem::path folder_;
  std::map<std::string, File> files_;
};

// The bytes of a regular file inside `folder`, reached through no link.  Throws bad_bundle.
std::vector<uint8_t> read_file(const std::filesystem::path& folder, const std::string& name, uint64_t most);

// A POSIX path that leads down only: no "..", no "/" in front, no backslash, nothing unprintable.
bool is_inside(const std::string& name);

}  // namespace mfs
