// NumPy's .npy files, version 1.0 and 2.0, C order, of the types that reference tensors have.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace mfs {

struct Array {
  std::string dtype;  // "|u1", "<f4", "<f8", or "<U" with the number of characters
  std::vector<int64_t> shape;
  std::vector<uint8_t> bytes;

  size_t count() const;
  // Throw bad_bundle where it is of another type or shape; -1 stands for any side.
  const uint8_t* bytes_of(const std::vector<int64_t>& shape, const std::string& name) const;
  const float* floats_of(const std::vector<int64_t>& shape, const std::string& name) const;
  const double* doubles_of(const std::vector<int64_t>& shape, const std::string& name) const;
  std::vector<std::string> texts() const;  // of a list of strings; what is not ASCII becomes "?"

 private:
  void check(const std::string& dtype, const std::vector<int64_t>& shape, const std::string& name) const;
};

Array parse_npy(std::vector<uint8_t> file, const std::string& name);  // throws bad_bundle
bool has_npy(const std::filesystem::path& folder, const std::string& name);
Array read_npy(const std::filesystem::path& folder, const std::string& name);  // `name` without ".npy"
void write_npy(const std::filesystem::path& path, const std::vector<int64_t>& shape,
               const std::vector<float>& values);  // throws failed

}  // namespace mfs
