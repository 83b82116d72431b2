#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace mfs {

// SHA-256 (FIPS 180-4) as 64 lower-case hexadecimal digits.
std::string sha256(const void* data, size_t bytes);

}  // namespace mfs
