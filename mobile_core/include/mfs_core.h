/* The native core of the Android and iOS demos: bundle, alignment, network, paste-back.  Plain C, no platform types.
 *
 * Handles are opaque.  No call throws or prints, though runtimes log what they refuse to stderr.  A call that can fail returns an
 * mfs_status, and mfs_last_error() then says why, in one English line, for the thread that made the call.  Output parameters are
 * written only on MFS_OK, unless said otherwise.
 *
 * Threads: an mfs_bundle never changes once open, so any number of threads may use it.  An mfs_session may be called from any
 * thread: mfs_session_load prepares the new network beside the running one and exchanges them between two frames, all else takes
 * turns.  An mfs_smoother is for one thread at a time.  Close or destroy a handle only when no other call that uses it is running.
 *
 * Strings are UTF-8.  Landmarks are ten numbers, x and y of: image-left eye, image-right eye, nose tip, image-left mouth corner,
 * image-right mouth corner, in pixels of the frame's buffer (as it lies in memory, whatever its rotation).
 */
#ifndef MFS_CORE_H
#define MFS_CORE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define MFS_API __attribute__((visibility("default")))
#else
#define MFS_API
#endif

typedef enum mfs_status {
  MFS_OK = 0,
  MFS_ERROR_ARGUMENT = 1,    /* a value that is not allowed */
  MFS_ERROR_BUNDLE = 2,      /* damaged, incomplete, or not a bundle */
  MFS_ERROR_UNSUPPORTED = 3, /* not on this machine, or not in this build: a runtime, a schema, an architecture */
  MFS_ERROR_RUNTIME = 4,     /* the runtime failed, or memory ran out */
  MFS_ERROR_PARITY = 5       /* outputs are outside the recipe's tolerance */
} mfs_status;

/* Why the last call of this thread failed; "" where it did not.  Valid until the thread's next call. */
MFS_API const char* mfs_last_error(void);
/* Such as "mfs-core 0.1.0 (ncnn 1.0.20261020)". */
MFS_API const char* mfs_version(void);
/* Frees what a call has handed over as char*. */
MFS_API void mfs_string_free(char* text);

/* ---- frames ---- */

typedef enum mfs_format {
  MFS_RGB = 0,  /* planes[0]: 3 bytes a pixel */
  MFS_RGBA = 1, /* planes[0]: 4 bytes a pixel; the fourth is left alone */
  MFS_BGRA = 2, /* the same */
  MFS_I420 = 3, /* planes: Y, U, V; chroma at half size, rounded up; pixel_stride[1..2] may be 2, as in YUV_420_888 */
  MFS_NV12 = 4, /* planes: Y, UV interleaved */
  MFS_NV21 = 5  /* planes: Y, VU interleaved */
} mfs_format;

typedef enum mfs_colour {
  MFS_BT601_FULL = 0, /* JFIF; what Android's cameras give, and iOS's 420f up to standard definition */
  MFS_BT601_VIDEO = 1,
  MFS_BT709_FULL = 2,
  MFS_BT709_VIDEO = 3
} mfs_colour;

/* A view of pixels that the caller owns.  Zero what is not used. */
typedef struct mfs_frame {
  int32_t format; /* an mfs_format */
  int32_t colour; /* an mfs_colour; for YUV only */
  int32_t width, height;
  int32_t rotation; /* clockwise degrees that make it upright: 0, 90, 180, 270; only detectors and mfs_frame_convert look at it */
  uint8_t* planes[3];
  int32_t row_stride[3];   /* bytes from row to row */
  int32_t pixel_stride[3]; /* bytes from pixel to pixel; 0 means that of the format */
} mfs_frame;

/* The whole of `from`, upright, into `to` (RGB, RGBA or BGRA, of the upright size; a fourth byte becomes 255): for the screen. */
MFS_API mfs_status mfs_frame_convert(const mfs_frame* from, int mirrored, mfs_frame* to);

/* ---- a bundle: what apps with a runtime of their own (Core ML) use together with mfs_align and mfs_paste ---- */

typedef struct mfs_bundle mfs_bundle;

/* Reads the manifest and checks every file of it against its size and SHA-256. */
MFS_API mfs_status mfs_bundle_open(const char* folder, mfs_bundle** bundle);
MFS_API void mfs_bundle_close(mfs_bundle* bundle);
/* JSON: {"architecture", "size", "contract": {"input", "swapped", "mask": names of tensors}, "contract_sha256", "manifest_sha256",
 * "label", "disclosure", "artifacts": {name: {"recipe", "layout", "files", "inputs", "outputs"}}}.  Owned by the bundle. */
MFS_API const char* mfs_bundle_json(const mfs_bundle* bundle);
/* Side of a crop in pixels, and whether the network gives a mask. */
MFS_API int32_t mfs_bundle_size(const mfs_bundle* bundle);
MFS_API int32_t mfs_bundle_has_mask(const mfs_bundle* bundle);

/* Cuts the aligned crop of a face.  `crop` is RGB, RGBA or BGRA of the bundle's size; a fourth byte becomes 255.  `back` receives
 * the (2, 3) affine from pixels of the crop to pixels of the frame, row by row. */
MFS_API mfs_status mfs_align(const mfs_bundle* bundle, const mfs_frame* frame, const double landmarks[10], mfs_frame* crop,
                             double back[6]);

typedef enum mfs_type { MFS_UINT8 = 0 /* 0 to 255 */, MFS_FLOAT32 = 1 /* 0 to 1 */, MFS_FLOAT16 = 2 /* 0 to 1 */ } mfs_type;

/* A network's output as its runtime left it; strides count elements.  A BGRA buffer: data at its first red byte, channel_stride -1.
 */
typedef struct mfs_tensor {
  const void* data;
  int32_t type; /* an mfs_type */
  int64_t channel_stride, row_stride, pixel_stride;
} mfs_tensor;

/* Blends a swapped crop into the frame, in place, within the face's box.  `mask` is NULL where the network gives none. */
MFS_API mfs_status mfs_paste(const mfs_bundle* bundle, mfs_frame* frame, const mfs_tensor* swapped, const mfs_tensor* mask,
                             const double back[6]);

/* Landmarks from frame to frame: steady while the face rests, quick when it moves.  What a session does by itself. */
typedef struct mfs_smoother mfs_smoother;

MFS_API mfs_status mfs_smoother_create(mfs_smoother** smoother);
MFS_API void mfs_smoother_destroy(mfs_smoother* smoother);
/* Forgets the face: to be called for each frame without one. */
MFS_API void mfs_smoother_reset(mfs_smoother* smoother);
/* `seconds` is the frame's time on any steady clock.  `smoothed` may be `measured`. */
MFS_API mfs_status mfs_smooth(mfs_smoother* smoother, const double measured[10], double seconds, double smoothed[10]);

/* ---- a session: one camera, its swapped face, its figures ---- */

typedef struct mfs_session mfs_session;

typedef struct mfs_load {
  const char* backend; /* "ncnn" or "tflite" */
  int32_t threads;     /* 1 to 16 */
  const char*
      litert; /* path of libLiteRt.so for "tflite"; NULL searches as dlopen does; it stays loaded, whatever is named later */
  const char* detector; /* folder with detector.param and detector.bin (SCRFD); NULL takes the bundle's own, if it has one */
} mfs_load;

typedef struct mfs_result {
  int32_t swapped;      /* 0: no face, the frame is as it was */
  double landmarks[10]; /* those that were used, after smoothing */
  double detect_ms, align_ms, network_ms, paste_ms, total_ms;
} mfs_result;

MFS_API mfs_status mfs_session_create(mfs_session** session);
MFS_API void mfs_session_destroy(mfs_session* session);
/* Takes the bundle at `folder` into use.  Should anything fail, the one in use stays. */
MFS_API mfs_status mfs_session_load(mfs_session* session, const char* folder, const mfs_load* options);
/* Swaps the face in a frame, in place.  `landmarks` NULL asks the detector.  `seconds` is the frame's time on any steady clock. */
MFS_API mfs_status mfs_session_swap(mfs_session* session, mfs_frame* frame, const double* landmarks, double seconds,
                                    mfs_result* result);
/* One run of the network alone, on an RGB crop of side S = `size`: swapped (3, S, S) and mask (S, S; may be NULL) as float32 in
 * [0, 1]. */
MFS_API mfs_status mfs_session_run(mfs_session* session, const uint8_t* rgb, int32_t size, float* swapped, float* mask);
/* JSON: {"bundle", "backend", "runtime", "recipe", "precision", "threads", "detector", "frames", "fps", "sustained_fps",
 * "latency_ms": {stage: {"p50", "p90", "p99"}}}.  To be freed with mfs_string_free. */
MFS_API mfs_status mfs_session_json(mfs_session* session, char** json);
/* Holds the network, alignment and paste-back against the bundle's reference tensors, given as `folder` of .npy files
 * (reference.npz unpacked).  `dump` is NULL, or a folder, made where it is not there, that receives the network's outputs on the
 * reference's crops as float32 .npy files (N, C, S, S), by the names of the contract.  `json` receives the figures, also with
 * MFS_ERROR_PARITY.  To be freed with mfs_string_free. */
MFS_API mfs_status mfs_session_self_check(mfs_session* session, const char* folder, const char* dump, char** json);

#ifdef __cplusplus
}
#endif
#endif
