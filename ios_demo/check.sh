#!/bin/sh
# All that can be checked of the iOS app on this machine.  On a Mac with Xcode: the app is built, and its tests run in the simulator.
#   ios_demo/check.sh [--apple-types FOLDER]     FOLDER: npm's @nativescript/types-ios, unpacked
set -eu
cd "$(dirname "$0")/.."

python="${PYTHON:-.venv/bin/python}"
"$python" -m pytest tests/ios_demo -q -rs -p no:cacheprovider "$@"

if command -v xcodebuild > /dev/null; then
  xcodebuild -project ios_demo/MfsDemo.xcodeproj -scheme MfsDemo -quiet \
    -destination "platform=iOS Simulator,name=${SIMULATOR:-iPhone 15}" CODE_SIGNING_ALLOWED=NO test
else
  echo "no xcodebuild here: nothing was compiled by a Swift compiler, no XCTest ran"
fi
