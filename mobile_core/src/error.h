// One exception for all that can go wrong; only the C API catches it.
#pragma once

#include <stdexcept>
#include <string>

#include "mfs_core.h"

namespace mfs {

struct Error : std::runtime_error {
  Error(mfs_status status, const std::string& message) : std::runtime_error(message), status(status) {}
  mfs_status status;
};

inline Error bad_argument(const std::string& message) { return {MFS_ERROR_ARGUMENT, message}; }
inline Error bad_bundle(const std::string& message) { return {MFS_ERROR_BUNDLE, message}; }
inline Error unsupported(const std::string& message) { return {MFS_ERROR_UNSUPPORTED, message}; }
inline Error failed(const std::string& message) { return {MFS_ERROR_RUNTIME, message}; }

// What a stranger wrote, fit for one line of an error message.
std::string shown(const std::string& text);

}  // namespace mfs
