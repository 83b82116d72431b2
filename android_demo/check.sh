#!/usr/bin/env bash
# Checks of the Android demo that need neither Android Studio nor a phone.  What cannot run here is skipped, and the reason said.
#
#   android_demo/check.sh [--android-jar PATH] [--since PATH] [--bundle DIR] [--contracts DIR]
#
#   --android-jar  any android.jar of API 28 or above, such as the SDK's platforms/android-36/android.jar, for the app
#   --since        JSON, or JSON in gzip, of {"class": API level, "class#member": API level}: nothing above minSdk may be used
#   --bundle       a bundle with an ncnn artifact, as mfs-export writes it: Kotlin, JNI, C++ and ncnn run it, under -Xcheck:jni
#   --contracts    folders with a manifest.json, and in expected.txt what is to be read out of it
#
# Needs Python 3.11, Node's npm and a JDK from 11 on; --bundle also CMake, Ninja and a C++ compiler.  The Kotlin compiler, from npm,
# and JUnit, from Debian, are kept in the user's cache.  aapt2 and LiteRT, by its Python package, are used where they are there.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/mfs-deploy/android
kotlin_version=2.4.20
kotlin_sha256=c23dab400d7ce5ea8b6c909947c0ca5454189e4bb1108695b5f464500e5e950f
android_jar= since= bundle= contracts= native= litert=

die() { echo "error: $*" >&2; exit 2; }
has() { command -v "$1" > /dev/null; }
skip() { echo "skipped  $1: $2"; }
ok() { echo "ok       $1"; }
quietly() { "$@" > "$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }; } # its output is shown if it fails

while [ $# -gt 0 ]; do
  case $1 in
    --help) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"; exit 0 ;;
    --android-jar | --since | --bundle | --contracts) [ $# -gt 1 ] || die "$1 needs a value" ;;
    *) die "there is no option '$1'; see --help" ;;
  esac
  [ -e "$2" ] || die "$1: '$2' does not exist"
  case $1 in
    --android-jar) android_jar=$(realpath "$2") ;;
    --since) since=$(realpath "$2") ;;
    --bundle) bundle=$(realpath "$2") ;;
    --contracts) contracts=$(realpath "$2") ;;
  esac
  shift 2
done
[ -z "$since" ] || [ -n "$android_jar" ] || die "--since needs --android-jar: it is held against the compiled app"
for program in python3 java javac; do has $program || die "$program is needed"; done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$cache"

# --- the Kotlin compiler and JUnit

kotlin=$cache/kotlin-compiler-$kotlin_version
if [ ! -d "$kotlin" ]; then
  has npm || die "npm is needed, for the Kotlin compiler"
  (cd "$work" && npm pack --silent --ignore-scripts "kotlin-compiler@$kotlin_version" > /dev/null)
  archive=$work/kotlin-compiler-$kotlin_version.tgz
  echo "$kotlin_sha256  $archive" | sha256sum --check --quiet || die "the Kotlin compiler is not the file that was pinned"
  mkdir "$work/kotlin"
  tar -xzf "$archive" -C "$work/kotlin" --strip-components=1
  mv -T "$work/kotlin" "$kotlin" 2> /dev/null || [ -d "$kotlin" ]
fi
junit=$cache/junit4
if [ -e /usr/share/java/junit4.jar ] && [ -e /usr/share/java/hamcrest.jar ]; then
  junit=/usr/share/java
elif [ ! -d "$junit" ]; then
  { has apt-get && has dpkg; } || die "JUnit 4 is needed: Debian's package junit4"
  (cd "$work" && quietly apt-get download junit4 libhamcrest-java)
  for package in "$work"/*.deb; do dpkg -x "$package" "$work/debian"; done
  mv -T "$work/debian/usr/share/java" "$junit" 2> /dev/null || [ -d "$junit" ]
fi
tests_need=$junit/junit4.jar:$junit/hamcrest.jar

# Language and API version are those of gradle/libs.versions.toml, not the compiler's own.
language=$(sed -n 's/^kotlin = "\([0-9]*\.[0-9]*\).*/\1/p' "$here/gradle/libs.versions.toml")
kotlinc() { # for a run this short, optimising the compiler's own code costs more than it gives
  JAVA_OPTS="-Xmx1g -XX:TieredStopAtLevel=1 -XX:+UseSerialGC" bash "$kotlin/bin/kotlinc" -language-version "$language" -api-version "$language" -Werror "$@"
}

# --- what needs no android.jar

mkdir "$work/R"
python3 "$here/tools/resources.py" "$here/app/src/main" "$work/R"
ok "manifest and resources parse, every reference leads somewhere"

framework=/usr/share/android-framework-res/framework-res.apk
if has aapt2 && [ -e $framework ]; then
  # The package is Gradle's to add.  Debian's framework is of API 29, which has no dataExtractionRules yet.
  sed -e 's/<manifest /<manifest package="mfs.demo" /' -e '/android:dataExtractionRules=/d' \
    "$here/app/src/main/AndroidManifest.xml" > "$work/AndroidManifest.xml"
  quietly aapt2 compile --dir "$here/app/src/main/res" -o "$work/resources.zip"
  quietly aapt2 link -I $framework --manifest "$work/AndroidManifest.xml" -o "$work/resources.apk" "$work/resources.zip"
  ok "aapt2 takes manifest and resources, against Android 10's"
else
  skip "aapt2 takes manifest and resources" "Debian's packages aapt and android-framework-res are needed"
fi

# Android 9 has Java 8's classes: in later ones even ByteBuffer.position() is another method.
kotlinc -Xjdk-release=1.8 -jvm-target 1.8 "$here/core/src/main/kotlin" "$here/core/src/test/kotlin" -cp "$tests_need" -d "$work/core.jar"
ok "core compiles as Kotlin $language"

properties=()
[ -z "$contracts" ] || properties+=("-Dmfs.contracts=$contracts")
if [ -z "$bundle" ]; then
  skip "Kotlin, JNI, C++ and ncnn together" "no --bundle was given"
elif ! { has cmake && has ninja && has c++; }; then
  skip "Kotlin, JNI, C++ and ncnn together" "cmake, ninja and a C++ compiler are needed"
else
  home=$(dirname "$(dirname "$(realpath "$(command -v javac)")")")
  native=$here/app/build/host-jvm
  core=$here/../mobile_core
  sources=$(python3 "$core/get_dependencies.py" sources)
  ncnn=$(python3 "$core/get_dependencies.py" ncnn)
  quietly env JAVA_HOME="$home" cmake -G Ninja -S "$here/app/src/main/cpp" -B "$native" \
    -DMFS_SOURCES="$sources" -DMFS_NCNN="$ncnn" -DMFS_UNITY=ON
  quietly cmake --build "$native" --target mfs_jni mfs-bench-device
  properties+=("-Dmfs.bundle=$bundle" "-Djava.library.path=$native" "-Dmfs.report=$work/report.json")
  litert=$(python3 -c 'from importlib.resources import files; print(files("ai_edge_litert") / "libLiteRt.so")' 2> /dev/null || true)
  if [ -e "$litert" ]; then
    properties+=("-Dmfs.litert=$litert")
  else
    litert=
    skip "LiteRT by way of Kotlin" "python3 has no ai_edge_litert"
  fi
fi

mapfile -t tests < <(cd "$here/core/src/test/kotlin" && sed -n 's/^class \([A-Za-z]*Test\)\b.*/mfs.core.\1/p' mfs/core/*.kt | sort)
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
classpath=$work/core.jar:$tests_need:$kotlin/lib/kotlin-stdlib.jar
quietly java -Xcheck:jni "${properties[@]}" -cp "$classpath" org.junit.runner.JUnitCore "${tests[@]}"
cp "$work/log" "$work/junit.log"
if grep -E '^(WARNING|FATAL ERROR) in native method|WARNING: JNI' "$work/junit.log" >&2; then
  echo "error: -Xcheck:jni complains" >&2
  exit 1
fi
ok "JUnit: $(sed -n 's/^OK (\(.*\))$/\1/p' "$work/junit.log")${native:+, native code${litert:+ and LiteRT} among them}${contracts:+, contracts too}"

if [ -e "$work/report.json" ]; then
  mkdir "$work/reference"
  (cd "$work/reference" && python3 -m zipfile -e "$bundle/reference.npz" .)
  "$native/mobile_core/mfs-bench-device" --bundle "$bundle" --reference "$work/reference" \
    --warmup 1 --runs 2 --sustained 1.2 > "$work/native.json"
  python3 "$here/tools/compare_report_keys.py" "$work/report.json" "$work/native.json"
  ok "the app's report has the form of mfs-bench-device's"
fi

# --- the app

if [ -z "$android_jar" ]; then
  skip "the app compiles" "no --android-jar was given"
  exit 0
fi
javac -d "$work/R" --release 11 "$work/R/R.java"
kotlinc -Xjdk-release=11 -jvm-target 11 "$here/app/src/main/kotlin" -cp "$work/R:$work/core.jar:$android_jar" -d "$work/app.jar"
ok "the app compiles against $(basename "$android_jar")"
if [ -z "$since" ]; then
  skip "nothing above minSdk is used" "no --since was given"
else
  lowest=$(sed -n 's/^ *minSdk = \([0-9]*\)$/\1/p' "$here/app/build.gradle.kts")
  python3 "$here/tools/min_sdk.py" "$since" "$lowest" "$android_jar" "$work/app.jar" "$work/core.jar"
  ok "nothing above minSdk is used"
fi
