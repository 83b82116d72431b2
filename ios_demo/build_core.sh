#!/bin/sh
# mobile_core as one static library for the platform that Xcode is building for.  Xcode runs this before it compiles; by hand:
#   PLATFORM_NAME=iphoneos ARCHS=arm64 BUILT_PRODUCTS_DIR=/tmp/core ios_demo/build_core.sh
# Needs CMake and Python 3; the first run fetches ncnn's sources with pip and takes some minutes, later ones seconds.
set -eu

PATH="$PATH:/opt/homebrew/bin:/usr/local/bin"  # Xcode does not read shell profiles
core="$(cd "$(dirname "$0")/../mobile_core" && pwd)"
platform="${PLATFORM_NAME:?is iphoneos or iphonesimulator}"
arch="${ARCHS:-arm64}"
into="${BUILT_PRODUCTS_DIR:?is where libmfs_core_ios.a goes}/mfs_core"

for tool in cmake python3 xcrun; do
  command -v "$tool" > /dev/null || { echo "error: $tool is needed to build mobile_core: brew install $tool" >&2; exit 1; }
done
case "$arch" in
  *" "*) echo "error: one architecture at a time, not '$arch': set 'Build Active Architecture Only' to Yes" >&2; exit 1 ;;
esac

build="$into/build-$platform-$arch"
mkdir -p "$build"
cmake -S "$core" -B "$build" -G "Unix Makefiles" \
  -DCMAKE_SYSTEM_NAME=iOS -DCMAKE_OSX_SYSROOT="$platform" -DCMAKE_OSX_ARCHITECTURES="$arch" \
  -DCMAKE_OSX_DEPLOYMENT_TARGET="${IPHONEOS_DEPLOYMENT_TARGET:-16.0}" -DCMAKE_BUILD_TYPE=Release \
  -DMFS_SOURCES="$(python3 "$core/get_dependencies.py" sources)" -DMFS_TARGET="$arch" \
  -DNCNN_OPENMP=OFF -DNCNN_SIMPLEOMP=OFF
cmake --build "$build" --target mfs_core --parallel

find "$build" -name '*.a' > "$build/libraries.txt"
xcrun libtool -static -no_warning_for_no_symbols -o "$into/libmfs_core_ios.a" -filelist "$build/libraries.txt"
