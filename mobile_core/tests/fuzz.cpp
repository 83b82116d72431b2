// What strangers send: manifests, reference arrays and ncnn graphs, damaged on purpose.  Each must be read or refused, nothing
// else.
//
//   mfs-fuzz BUNDLE ROUNDS [SEED]     mutates the manifest and swap.param there, the same way every time for one seed
//   mfs-fuzz CORPUS...                where built with MFS_LIBFUZZER; the first byte of an input says what it is
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "bundle.h"
#include "error.h"
#include "ncnn_net.h"
#include "npy.h"

using namespace mfs;

namespace {

enum Kind : uint8_t { kManifest, kArray, kGraph, kKinds };

const std::filesystem::path& scratch() {
  static const std::filesystem::path folder = [] {
    auto made = std::filesystem::temp_directory_path() / ("mfs-fuzz-" + std::to_string(getpid()));
    std::filesystem::create_directories(made);
    return made;
  }();
  return folder;
}

// True where the content was read, false where it was refused.
bool feed(Kind kind, const std::vector<uint8_t>& content, const std::vector<uint8_t>& weights) {
  try {
    if (kind == kManifest) {
      std::ofstream(scratch() / "manifest.json", std::ios::binary)
          .write(reinterpret_cast<const char*>(content.data()), std::streamsize(content.size()));
      Bundle bundle(scratch());
    } else if (kind == kArray) {
      Array array = parse_npy(content, "it");
      if (array.dtype[1] == 'U') array.texts();
    } else {
      NcnnNet net(content, weights, 1, "it");
      int width, height;
      net.input_size(width, height);
    }
    return true;
  } catch (const Error& error) {
    if (error.status != MFS_ERROR_BUNDLE && error.status != MFS_ERROR_UNSUPPORTED) {
      std::fprintf(stderr, "refused in an unforeseen way: %s\n", error.what());
      std::abort();
    }
    return false;
  }
}

}  // namespace

#ifdef MFS_LIBFUZZER

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > 0) feed(data[0] % 2 ? kArray : kManifest, {data + 1, data + size}, {});  // ncnn is not instrumented
  return 0;
}

#else

namespace {

struct Random {
  uint64_t state;
  uint32_t below(size_t limit) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return uint32_t((state >> 32) % (limit == 0 ? 1 : limit));
  }
};

const char* const kBad[] = {"-1", "0",    "99999999999999999999", "1e308", "null", "true",    "\"\"", "[]",          "{}",
                            "-0", "1e-9", "2147483648",           "..",    "/",    "\\u0000", "\xff", "\"../../x\"", "NaN"};

std::vector<uint8_t> mutated(std::vector<uint8_t> text, Random& random) {
  for (uint32_t n = 1 + random.below(4); n > 0 && !text.empty(); n--) {
    size_t at = random.below(text.size());
    switch (random.below(6)) {
      case 0:
        text[at] ^= uint8_t(1 << random.below(8));
        break;
      case 1:
        text.erase(text.begin() + std::ptrdiff_t(at),
                   text.begin() + std::ptrdiff_t(std::min(text.size(), at + 1 + random.below(40))));
        break;
      case 2: {  // a stretch from elsewhere
        size_t from = random.below(text.size());
        std::vector<uint8_t> part(text.begin() + std::ptrdiff_t(from),
                                  text.begin() + std::ptrdiff_t(std::min(text.size(), from + random.below(60))));
        text.insert(text.begin() + std::ptrdiff_t(at), part.begin(), part.end());
        break;
      }
      case 3:
        text.resize(at);
        break;
      default: {  // a value in place of a number
        size_t digit = at;
        while (digit < text.size() && !(text[digit] >= '0' && text[digit] <= '9')) digit++;
        size_t end = digit;
        while (end < text.size() && text[end] >= '0' && text[end] <= '9') end++;
        const std::string bad = kBad[random.below(std::size(kBad))];
        text.erase(text.begin() + std::ptrdiff_t(digit), text.begin() + std::ptrdiff_t(end));
        text.insert(text.begin() + std::ptrdiff_t(digit), bad.begin(), bad.end());
      }
    }
  }
  return text;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: mfs-fuzz BUNDLE ROUNDS [SEED]\n");
    return 2;
  }
  const std::filesystem::path bundle = argv[1];
  const int rounds = std::atoi(argv[2]);
  Random random{argc > 3 ? std::strtoull(argv[3], nullptr, 10) + 1 : 1};
  const std::vector<uint8_t> weights = read_file(bundle, "swap.bin", Bundle::kLargestFile);
  write_npy(scratch() / "seed.npy", {1, 3, 4, 4}, std::vector<float>(48, 0.5f));
  const std::vector<uint8_t> seeds[kKinds] = {read_file(bundle, "manifest.json", 1 << 24),
                                              read_file(scratch(), "seed.npy", 1 << 20), read_file(bundle, "swap.param", 1 << 24)};
  for (const auto& entry : std::filesystem::directory_iterator(bundle)) {
    if (entry.path().filename() != "manifest.json") std::filesystem::copy(entry.path(), scratch() / entry.path().filename());
  }
  for (Kind kind : {kManifest, kArray, kGraph}) {
    if (!feed(kind, seeds[kind], weights)) {
      std::fprintf(stderr, "what was not damaged is refused\n");
      return 1;
    }
    int read = 0;
    for (int i = 0; i < rounds; i++) {
      std::vector<uint8_t> content = mutated(seeds[kind], random);
      std::ofstream(scratch() / "last", std::ios::binary)
          .write(reinterpret_cast<const char*>(content.data()), std::streamsize(content.size()));
      read += feed(kind, content, weights);
    }
    std::printf("kind %d: of %d damaged, %d were refused\n", int(kind), rounds, rounds - read);
  }
  std::filesystem::remove_all(scratch());
  return 0;
}

#endif
