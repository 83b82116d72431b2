#include "npy.h"

#include <cstring>
#include <fstream>

#include "bundle.h"
#include "error.h"

namespace mfs {
namespace {

constexpr uint64_t kLargest = 200'000'000;
constexpr int64_t kMostTexts = 1000;

// What stands behind 'key': in the header, a dict as Python writes it.
std::string value_of(const std::string& header, const std::string& key, const std::string& name) {
  size_t at = header.find("'" + key + "':");
  if (at == std::string::npos) throw bad_bundle(name + ".npy has no " + key);
  at = header.find_first_not_of(' ', at + key.size() + 3);
  if (at == std::string::npos) throw bad_bundle(name + ".npy has no " + key);
  size_t end = header[at] == '(' ? header.find(')', at) : header.find_first_of(",}", at);
  if (end == std::string::npos) throw bad_bundle(name + ".npy has a header without an end");
  return header.substr(at, end - at);
}

size_t item_size(const std::string& dtype, const std::string& name) {
  if (dtype == "|u1") return 1;
  if (dtype == "<f4") return 4;
  if (dtype == "<f8") return 8;
  bool is_text = dtype.size() >= 3 && dtype.size() <= 6 && dtype.compare(0, 2, "<U") == 0 &&
                 dtype.find_first_not_of("0123456789", 2) == std::string::npos;
  int letters = is_text ? std::stoi(dtype.substr(2)) : 0;
  if (letters > 0) return 4 * size_t(letters);
  throw bad_bundle(name + ".npy is of type " + shown(dtype));
}

}  // namespace

size_t Array::count() const {
  size_t out = 1;
  for (int64_t side : shape) out *= size_t(side);
  return out;
}

void Array::check(const std::string& wanted, const std::vector<int64_t>& sides, const std::string& name) const {
  bool fits = dtype == wanted && shape.size() == sides.size();
  for (size_t i = 0; fits && i < sides.size(); i++) fits = sides[i] == shape[i] || sides[i] == -1;
  if (!fits) throw bad_bundle("the reference's " + name + " has another type or shape than this bundle's would");
}

const uint8_t* Array::bytes_of(const std::vector<int64_t>& sides, const std::string& name) const {
  check("|u1", sides, name);
  return bytes.data();
}

const float* Array::floats_of(const std::vector<int64_t>& sides, const std::string& name) const {
  check("<f4", sides, name);
  return reinterpret_cast<const float*>(bytes.data());
}

const double* Array::doubles_of(const std::vector<int64_t>& sides, const std::string& name) const {
  check("<f8", sides, name);
  return reinterpret_cast<const double*>(bytes.data());
}

std::vector<std::string> Array::texts() const {
  bool fits = shape.size() == 1 && shape[0] <= kMostTexts && dtype.compare(0, 2, "<U") == 0;
  if (!fits) throw bad_bundle("the reference's case is no list of at most " + std::to_string(kMostTexts) + " names");
  std::vector<std::string> out(count());
  const uint8_t* at = bytes.data();
  for (std::string& name : out) {
    for (const uint8_t* end = at + bytes.size() / out.size(); at < end; at += 4) {
      uint32_t code = uint32_t(at[0]) | uint32_t(at[1]) << 8 | uint32_t(at[2]) << 16 | uint32_t(at[3]) << 24;
      if (code != 0) name += code >= 0x20 && code < 0x7f ? char(code) : '?';
    }
  }
  return out;
}

Array parse_npy(std::vector<uint8_t> file, const std::string& name) {
  if (file.size() < 12 || std::memcmp(file.data(), "\x93NUMPY", 6) != 0 || (file[6] != 1 && file[6] != 2))
    throw bad_bundle(name + ".npy is not one");
  size_t start = file[6] == 1 ? 10 : 12, length = file[8] | size_t(file[9]) << 8;
  if (file[6] == 2) length |= size_t(file[10]) << 16 | size_t(file[11]) << 24;
  if (length > file.size() - start) throw bad_bundle(name + ".npy ends within its header");
  const std::string header(file.begin() + std::ptrdiff_t(start), file.begin() + std::ptrdiff_t(start + length));
  std::string descr = value_of(header, "descr", name), shape = value_of(header, "shape", name);
  if (value_of(header, "fortran_order", name) != "False") throw bad_bundle(name + ".npy is in Fortran order");
  Array out;
  if (descr.size() < 2 || descr.front() != '\'' || descr.back() != '\'') throw bad_bundle(name + ".npy is of type " + shown(descr));
  out.dtype = descr.substr(1, descr.size() - 2);
  uint64_t bytes = item_size(out.dtype, name);
  if (shape.empty() || shape[0] != '(') throw bad_bundle(name + ".npy has the shape " + shown(shape));
  for (size_t at = 1; at < shape.size();) {
    size_t end = shape.find_first_not_of("0123456789", at);
    if (end == std::string::npos) end = shape.size();
    if (end == at || end - at > 9 || out.shape.size() >= 8) throw bad_bundle(name + ".npy has the shape " + shown(shape));
    out.shape.push_back(std::stoll(shape.substr(at, end - at)));
    bytes *= uint64_t(out.shape.back());
    if (bytes > kLargest) throw bad_bundle(name + ".npy is too large");
    at = shape.find_first_not_of(", ", end);
    if (at == std::string::npos) break;
  }
  if (file.size() - start - length != bytes) throw bad_bundle(name + ".npy does not have the bytes of its shape");
  out.bytes.assign(file.begin() + std::ptrdiff_t(start + length), file.end());
  return out;
}

bool has_npy(const std::filesystem::path& folder, const std::string& name) {
  std::error_code error;
  return std::filesystem::exists(folder / (name + ".npy"), error);
}

Array read_npy(const std::filesystem::path& folder, const std::string& name) {
  return parse_npy(read_file(folder, name + ".npy", kLargest), name);
}

void write_npy(const std::filesystem::path& path, const std::vector<int64_t>& shape, const std::vector<float>& values) {
  std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (";
  for (int64_t side : shape) header += std::to_string(side) + ", ";
  header += "), }";
  header.append(64 - (10 + header.size() + 1) % 64, ' ');
  header += '\n';
  std::ofstream out(path, std::ios::binary);
  out.write("\x93NUMPY\x01\x00", 8);
  const char length[2] = {char(header.size() & 255), char(header.size() >> 8)};
  out.write(length, 2);
  out.write(header.data(), std::streamsize(header.size()));
  out.write(reinterpret_cast<const char*>(values.data()), std::streamsize(values.size() * sizeof(float)));
  out.close();
  if (!out) throw failed(shown(path.string()) + " cannot be written");
}

}  // namespace mfs
