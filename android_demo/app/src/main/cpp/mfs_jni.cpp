// mfs.core.NativeCore: mobile_core's C API for Kotlin.  Arguments are copied and measured, statuses become
// exceptions, nothing else.
#include <jni.h>

#include <cstring>
#include <exception>
#include <string>

#include "mfs_core.h"

#define MFS_JNI(type, name) extern "C" JNIEXPORT type JNICALL Java_mfs_core_NativeCore_##name

namespace {

constexpr int kTimes = 5, kLandmarks = 10, kLargestSide = 1 << 15;

// A Java exception is pending: leave for Java at once.
struct Thrown : std::exception {};

jbyteArray bytes_of(JNIEnv* env, const char* text) {
  jsize length = jsize(std::strlen(text));
  jbyteArray out = env->NewByteArray(length);
  if (out == nullptr) throw Thrown();
  env->SetByteArrayRegion(out, 0, length, reinterpret_cast<const jbyte*>(text));
  return out;
}

[[noreturn]] void fail(JNIEnv* env, mfs_status status, const char* message) {
  jclass type = env->FindClass("mfs/core/CoreException");
  if (type == nullptr) throw Thrown();
  jmethodID create = env->GetMethodID(type, "<init>", "(I[B)V");
  if (create == nullptr) throw Thrown();
  jobject exception = env->NewObject(type, create, jint(status), bytes_of(env, message));
  if (exception != nullptr) env->Throw(static_cast<jthrowable>(exception));
  throw Thrown();
}

void check(JNIEnv* env, mfs_status status) {
  if (status != MFS_OK) fail(env, status, mfs_last_error());
}

std::string text_of(JNIEnv* env, jbyteArray bytes) {
  std::string out(size_t(env->GetArrayLength(bytes)), '\0');
  env->GetByteArrayRegion(bytes, 0, jsize(out.size()), reinterpret_cast<jbyte*>(&out[0]));
  return out;
}

// A plane's first byte.  mobile_core trusts strides; that they stay inside a buffer can only be seen here.
uint8_t* plane_of(JNIEnv* env, jobject buffer, int64_t bytes, const char* name) {
  void* data = env->GetDirectBufferAddress(buffer);
  if (data == nullptr) fail(env, MFS_ERROR_ARGUMENT, (std::string(name) + " is no direct buffer").c_str());
  int64_t capacity = env->GetDirectBufferCapacity(buffer);
  if (bytes < 0 || capacity < bytes) {
    std::string has = std::string(name) + " has " + std::to_string(capacity) + " bytes";
    std::string message = has + ", its size and strides need " + std::to_string(bytes);
    fail(env, MFS_ERROR_ARGUMENT, message.c_str());
  }
  return static_cast<uint8_t*>(data);
}

// From the first byte of a plane to the end of its last pixel: a camera's last row may end there.
int64_t extent(int64_t width, int64_t height, int64_t row_stride, int64_t pixel_stride) {
  return (height - 1) * row_stride + (width - 1) * pixel_stride + 1;
}

mfs_frame rgba_frame(JNIEnv* env, jobject buffer, jint width, jint height) {
  bool makes_sense = width > 0 && height > 0 && width <= kLargestSide && height <= kLargestSide;
  if (!makes_sense) fail(env, MFS_ERROR_ARGUMENT, "width and height of rgba make no sense");
  mfs_frame out{};
  out.format = MFS_RGBA;
  out.width = width;
  out.height = height;
  out.planes[0] = plane_of(env, buffer, int64_t(width) * height * 4, "rgba");
  out.row_stride[0] = width * 4;
  return out;
}

mfs_session* session_of(jlong handle) { return reinterpret_cast<mfs_session*>(handle); }

jbyteArray handed_over(JNIEnv* env, char* text) {
  try {
    jbyteArray out = bytes_of(env, text);
    mfs_string_free(text);
    return out;
  } catch (const Thrown&) {
    mfs_string_free(text);
    throw;
  }
}

// No C++ exception may pass into Java.
template <class Body>
auto guarded(JNIEnv* env, Body body) -> decltype(body()) {
  using Result = decltype(body());
  try {
    return body();
  } catch (const Thrown&) {
  } catch (const std::exception& error) {  // of our own code, none but bad_alloc
    jclass type = env->FindClass("java/lang/OutOfMemoryError");
    if (type != nullptr) env->ThrowNew(type, error.what());
  }
  return Result();
}

}  // namespace

MFS_JNI(jbyteArray, version)(JNIEnv* env, jclass) {
  return guarded(env, [&] { return bytes_of(env, mfs_version()); });
}

MFS_JNI(jbyteArray, compiler)(JNIEnv* env, jclass) {
  return guarded(env, [&] { return bytes_of(env, __VERSION__); });
}

MFS_JNI(jlong, open)
(JNIEnv* env, jclass, jbyteArray folder, jbyteArray backend, jint threads, jbyteArray litert, jbyteArray detector) {
  return guarded(env, [&]() -> jlong {
    std::string name = text_of(env, backend), path = text_of(env, folder), library, faces;
    mfs_load load{name.c_str(), threads, nullptr, nullptr};
    if (litert != nullptr) load.litert = (library = text_of(env, litert)).c_str();
    if (detector != nullptr) load.detector = (faces = text_of(env, detector)).c_str();
    mfs_session* session = nullptr;
    check(env, mfs_session_create(&session));
    mfs_status status = mfs_session_load(session, path.c_str(), &load);
    if (status != MFS_OK) {
      std::string message = mfs_last_error();
      mfs_session_destroy(session);
      fail(env, status, message.c_str());
    }
    return reinterpret_cast<jlong>(session);
  });
}

MFS_JNI(void, close)(JNIEnv*, jclass, jlong session) { mfs_session_destroy(session_of(session)); }

MFS_JNI(jbyteArray, about)(JNIEnv* env, jclass, jlong session) {
  return guarded(env, [&] {
    char* json = nullptr;
    check(env, mfs_session_json(session_of(session), &json));
    return handed_over(env, json);
  });
}

MFS_JNI(jbyteArray, selfCheck)(JNIEnv* env, jclass, jlong session, jbyteArray reference, jbyteArray dump) {
  return guarded(env, [&] {
    std::string from = text_of(env, reference), to = dump != nullptr ? text_of(env, dump) : "";
    char* json = nullptr;
    mfs_status status = mfs_session_self_check(session_of(session), from.c_str(), dump != nullptr ? to.c_str() : nullptr, &json);
    if (status != MFS_ERROR_PARITY || json == nullptr) check(env, status);  // figures say what is wrong, where there are some
    return handed_over(env, json);
  });
}

MFS_JNI(void, convert)
(JNIEnv* env, jclass, jobject y, jobject u, jobject v, jintArray layout, jboolean mirrored, jobject rgba, jint width, jint height) {
  guarded(env, [&] {
    jint at[6] = {};
    env->GetIntArrayRegion(layout, 0, 6, at);
    if (env->ExceptionCheck()) throw Thrown();
    mfs_frame from{};
    from.format = MFS_I420;
    from.colour = MFS_BT601_FULL;
    from.width = at[0];
    from.height = at[1];
    from.rotation = at[2];
    const int64_t half_width = (int64_t(at[0]) + 1) / 2, half_height = (int64_t(at[1]) + 1) / 2;
    bool is_positive = at[0] > 0 && at[1] > 0 && at[3] > 0 && at[4] > 0 && at[5] > 0;
    if (!is_positive) fail(env, MFS_ERROR_ARGUMENT, "sizes and strides of a frame must be positive");
    from.planes[0] = plane_of(env, y, extent(at[0], at[1], at[3], 1), "y");
    from.planes[1] = plane_of(env, u, extent(half_width, half_height, at[4], at[5]), "u");
    from.planes[2] = plane_of(env, v, extent(half_width, half_height, at[4], at[5]), "v");
    for (int i = 0; i < 3; i++) {
      from.row_stride[i] = at[i == 0 ? 3 : 4];
      from.pixel_stride[i] = i == 0 ? 1 : at[5];
    }
    mfs_frame to = rgba_frame(env, rgba, width, height);
    check(env, mfs_frame_convert(&from, mirrored, &to));
  });
}

MFS_JNI(jboolean, swap)
(JNIEnv* env, jclass, jlong session, jobject rgba, jint width, jint height, jdoubleArray landmarks, jdouble seconds,
 jdoubleArray result) {
  return guarded(env, [&]() -> jboolean {
    mfs_frame frame = rgba_frame(env, rgba, width, height);
    double points[kLandmarks];
    if (landmarks != nullptr) env->GetDoubleArrayRegion(landmarks, 0, kLandmarks, points);
    if (env->ExceptionCheck()) throw Thrown();
    mfs_result said{};
    check(env, mfs_session_swap(session_of(session), &frame, landmarks != nullptr ? points : nullptr, seconds, &said));
    const double times[kTimes] = {said.detect_ms, said.align_ms, said.network_ms, said.paste_ms, said.total_ms};
    env->SetDoubleArrayRegion(result, 0, kTimes, times);
    if (env->ExceptionCheck()) throw Thrown();
    env->SetDoubleArrayRegion(result, kTimes, kLandmarks, said.landmarks);
    if (env->ExceptionCheck()) throw Thrown();
    return said.swapped != 0;
  });
}
