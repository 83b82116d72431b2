// LiteRT's C API 2.x, from a library that is looked up at run time, so that apps without it start all the same.
//
// No package ships its headers.  The declarations below are ours, of the functions used, after the API's documentation; 1.x has
// functions of the same names with other parameters, so a library without those that came with 2.x is refused.
#include "error.h"
#include "network.h"

#ifdef MFS_WITH_LITERT

#include <dlfcn.h>

#include <cmath>
#include <cstdlib>
#include <cstring>

namespace mfs {
namespace {

using Handle = void*;
using Status = int;  // 0: all is well
enum { kTypeUInt8 = 3, kTypeInt8 = 9, kTypeFloat32 = 1 };
enum { kLockRead = 0, kLockWrite = 1 };
enum { kAcceleratorCpu = 1 };

struct RankedType {
  int element_type;
  uint32_t rank : 7, has_strides : 1;
  int32_t sides[8];
  uint32_t strides[8];
};
static_assert(sizeof(RankedType) == 72, "LiteRT's own check of its ABI");

struct Quantization {
  float scale;
  int64_t zero;
};

struct Library {
  void* handle = nullptr;

  Status (*create_environment)(int, const void* options, Handle* environment);
  void (*destroy_environment)(Handle);
  Status (*create_model)(Handle environment, const void* bytes, size_t size, Handle* model);
  void (*destroy_model)(Handle);
  Status (*model_signature)(Handle model, size_t index, Handle* signature);
  Status (*count_inputs)(Handle signature, size_t* count);
  Status (*count_outputs)(Handle signature, size_t* count);
  Status (*input_name)(Handle signature, size_t index, const char** name);
  Status (*output_name)(Handle signature, size_t index, const char** name);
  Status (*input_tensor)(Handle signature, size_t index, Handle* tensor);
  Status (*output_tensor)(Handle signature, size_t index, Handle* tensor);
  Status (*ranked_type)(Handle tensor, RankedType* type);
  Status (*quantization)(Handle tensor, Quantization* quantization);
  Status (*create_options)(Handle* options);
  void (*destroy_options)(Handle);
  Status (*set_accelerators)(Handle options, int set);
  Status (*create_opaque)(const char* name, void* payload, void (*destroy)(void*), Handle* opaque);
  Status (*add_opaque)(Handle options, Handle opaque);
  Status (*compile)(Handle environment, Handle model, Handle options, Handle* compiled);
  void (*destroy_compiled)(Handle);
  Status (*input_needs)(Handle compiled, size_t signature, size_t index, Handle* requirements);
  Status (*output_needs)(Handle compiled, size_t signature, size_t index, Handle* requirements);
  Status (*create_buffer)(Handle environment, const RankedType* type, Handle requirements, Handle* buffer);
  void (*destroy_buffer)(Handle);
  Status (*buffer_size)(Handle buffer, size_t* bytes);
  Status (*lock)(Handle buffer, void** address, int mode);
  Status (*unlock)(Handle buffer);
  Status (*run)(Handle compiled, size_t signature, size_t inputs, Handle* in, size_t outputs, Handle* out);

  explicit Library(const std::string& path) {
    std::string name = path.empty() ? "libLiteRt.so" : path;
    handle = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) {
      const char* why = dlerror();
      throw unsupported("LiteRT cannot be loaded: " + std::string(why != nullptr ? why : name));
    }
    // In 1.x models were made without an environment; this one came after that had changed.
    if (dlsym(handle, "LiteRtCreateModelFromFd") == nullptr) throw unsupported(shown(name) + " is not LiteRT 2.3 or later");
    find(create_environment, "LiteRtCreateEnvironment");
    find(destroy_environment, "LiteRtDestroyEnvironment");
    find(create_model, "LiteRtCreateModelFromBuffer");
    find(destroy_model, "LiteRtDestroyModel");
    find(model_signature, "LiteRtGetModelSignature");
    find(count_inputs, "LiteRtGetNumSignatureInputs");
    find(count_outputs, "LiteRtGetNumSignatureOutputs");
    find(input_name, "LiteRtGetSignatureInputName");
    find(output_name, "LiteRtGetSignatureOutputName");
    find(input_tensor, "LiteRtGetSignatureInputTensorByIndex");
    find(output_tensor, "LiteRtGetSignatureOutputTensorByIndex");
    find(ranked_type, "LiteRtGetRankedTensorType");
    find(quantization, "LiteRtGetPerTensorQuantization");
    find(create_options, "LiteRtCreateOptions");
    find(destroy_options, "LiteRtDestroyOptions");
    find(set_accelerators, "LiteRtSetOptionsHardwareAccelerators");
    find(create_opaque, "LiteRtCreateOpaqueOptions");
    find(add_opaque, "LiteRtAddOpaqueOptions");
    find(compile, "LiteRtCreateCompiledModel");
    find(destroy_compiled, "LiteRtDestroyCompiledModel");
    find(input_needs, "LiteRtGetCompiledModelInputBufferRequirements");
    find(output_needs, "LiteRtGetCompiledModelOutputBufferRequirements");
    find(create_buffer, "LiteRtCreateManagedTensorBufferFromRequirements");
    find(destroy_buffer, "LiteRtDestroyTensorBuffer");
    find(buffer_size, "LiteRtGetTensorBufferSize");
    find(lock, "LiteRtLockTensorBuffer");
    find(unlock, "LiteRtUnlockTensorBuffer");
    find(run, "LiteRtRunCompiledModel");
  }

  template <class Function>
  void find(Function& function, const char* name) {
    void* symbol = dlsym(handle, name);
    if (symbol == nullptr) throw unsupported(std::string("this LiteRT has no ") + name);
    std::memcpy(&function, &symbol, sizeof symbol);
  }
};

// Never unloaded: its threads may outlive the last model.
const Library& library(const std::string& path) {
  static const Library loaded(path);
  return loaded;
}

void check(Status status, const char* what) {
  if (status != 0) throw failed(std::string("LiteRT: ") + what + " failed with status " + std::to_string(status));
}

class LitertNetwork : public Network {
 public:
  LitertNetwork(const Bundle& bundle, const Artifact& artifact, int threads, const Library& l)
      : l_(l), contract_(bundle.contract), bytes_(bundle.load(artifact.files[0])) {
    try {
      open(artifact, threads);
    } catch (...) {
      close();
      throw;
    }
  }
  ~LitertNetwork() override { close(); }

  void run(const uint8_t* rgb, Outputs& outputs) override {
    size_t pixels = size_t(contract_.size) * contract_.size;
    with(input_, kLockWrite, [&](void* data) {
      for (size_t i = 0; i < pixels * 3; i++) {
        float value = float(rgb[i]) / 255.0f;
        if (input_.type == kTypeFloat32) {
          static_cast<float*>(data)[i] = value;
        } else {
          static_cast<uint8_t*>(data)[i] = stored(input_, value);
        }
      }
    });
    Handle in[1] = {input_.buffer}, out[2];
    for (size_t i = 0; i < outputs_.size(); i++) out[i] = outputs_[i].buffer;
    check(l_.run(compiled_, 0, 1, in, outputs_.size(), out), "running the model");
    outputs.mask.clear();
    for (Tensor& tensor : outputs_) {
      std::vector<float>& into = tensor.channels == 3 ? outputs.swapped : outputs.mask;
      into.resize(pixels * tensor.channels);
      with(tensor, kLockRead, [&](void* data) {
        for (size_t i = 0; i < pixels; i++) {
          for (int c = 0; c < tensor.channels; c++) into[c * pixels + i] = read(tensor, data, i * tensor.channels + c);
        }
      });
    }
  }

 private:
  struct Tensor {
    Handle buffer = nullptr;
    int type = 0, channels = 0;
    Quantization steps{1, 0};
  };

  void open(const Artifact& artifact, int threads) {
    check(l_.create_environment(0, nullptr, &environment_), "making an environment");
    if (l_.create_model(environment_, bytes_.data(), bytes_.size(), &model_) != 0)
      throw bad_bundle("LiteRT cannot read " + shown(artifact.files[0]));
    check(l_.create_options(&options_), "making options");
    check(l_.set_accelerators(options_, kAcceleratorCpu), "choosing the CPU");
    Handle cpu = nullptr;  // its options are TOML, under this name
    char* toml = static_cast<char*>(std::malloc(32));
    if (toml == nullptr) throw failed("no memory for LiteRT's options");
    std::snprintf(toml, 32, "num_threads = %d\n", threads);
    if (l_.create_opaque("xnnpack", toml, std::free, &cpu) != 0) std::free(toml);
    check(cpu == nullptr, "making CPU options");
    check(l_.add_opaque(options_, cpu), "adding CPU options");
    check(l_.compile(environment_, model_, options_, &compiled_), "compiling the model");

    Handle signature = nullptr;
    size_t inputs = 0, outputs = 0;
    check(l_.model_signature(model_, 0, &signature), "finding the signature");
    check(l_.count_inputs(signature, &inputs), "counting inputs");
    check(l_.count_outputs(signature, &outputs), "counting outputs");
    if (inputs != 1 || outputs != 1 + contract_.mask.size())
      throw bad_bundle(artifact.files[0] + " has other inputs and outputs than the contract");
    input_ = tensor(signature, 0, true);
    for (size_t i = 0; i < outputs; i++) {
      outputs_.push_back(tensor(signature, i, false));
      gives_pixels = gives_pixels || (outputs_[i].channels == 3 && outputs_[i].type != kTypeFloat32);
    }
    if (outputs == 2 && outputs_[0].channels == outputs_[1].channels)
      throw bad_bundle(artifact.files[0] + " has two outputs of one name");
    runtime = "LiteRT (XNNPACK CPU)";
    precision = input_.type != kTypeFloat32 ? "int8" : "as the model says";
  }

  Tensor tensor(Handle signature, size_t index, bool is_input) {
    const char* name = nullptr;
    Handle found = nullptr, needs = nullptr;
    check((is_input ? l_.input_name : l_.output_name)(signature, index, &name), "naming a tensor");
    check((is_input ? l_.input_tensor : l_.output_tensor)(signature, index, &found), "finding a tensor");
    bool is_mask = !is_input && contract_.has_mask() && name == contract_.mask[0].name;
    const TensorSpec& spec = is_input ? contract_.input : is_mask ? contract_.mask[0] : contract_.swapped;
    if (name != spec.name) throw bad_bundle("the model has a tensor " + shown(name) + ", the contract says " + shown(spec.name));
    RankedType type{};
    check(l_.ranked_type(found, &type), "asking for a tensor's type");
    const int32_t wanted[4] = {1, contract_.size, contract_.size, spec.shape[1]};
    if (type.rank != 4 || std::memcmp(type.sides, wanted, sizeof wanted) != 0)
      throw bad_bundle("the model's " + spec.name + " is not of the contract's shape");
    Tensor out;
    out.type = type.element_type;
    out.channels = spec.shape[1];
    size_t bytes = size_t(contract_.size) * contract_.size * out.channels;
    if (out.type == kTypeFloat32) {
      bytes *= 4;
    } else if (out.type == kTypeInt8 || out.type == kTypeUInt8) {
      check(l_.quantization(found, &out.steps), "asking for a tensor's scale");
      if (!(out.steps.scale > 0 && out.steps.scale < 1) || out.steps.zero < -128 || out.steps.zero > 255)
        throw bad_bundle("the model's " + spec.name + " has a scale out of all reason");
    } else {
      throw unsupported("the model's " + spec.name + " is neither float32 nor int8 nor uint8");
    }
    check((is_input ? l_.input_needs : l_.output_needs)(compiled_, 0, index, &needs), "asking for a buffer's form");
    check(l_.create_buffer(environment_, &type, needs, &out.buffer), "making a buffer");
    buffers_.push_back(out.buffer);
    size_t has = 0;
    check(l_.buffer_size(out.buffer, &has), "asking for a buffer's size");
    if (has < bytes)
      throw failed("LiteRT made a buffer of " + std::to_string(has) + " bytes where " + std::to_string(bytes) + " are needed");
    return out;
  }

  template <class Use>
  void with(Tensor& tensor, int mode, Use use) {
    void* data = nullptr;
    check(l_.lock(tensor.buffer, &data, mode), "locking a buffer");
    use(data);
    check(l_.unlock(tensor.buffer), "unlocking a buffer");
  }

  static uint8_t stored(const Tensor& tensor, float value) {
    long step = std::lrint(value / tensor.steps.scale) + long(tensor.steps.zero);
    long low = tensor.type == kTypeInt8 ? -128 : 0, high = tensor.type == kTypeInt8 ? 127 : 255;
    return uint8_t(step < low ? low : step > high ? high : step);
  }

  static float read(const Tensor& tensor, const void* data, size_t i) {
    if (tensor.type == kTypeFloat32) return static_cast<const float*>(data)[i];
    int step = tensor.type == kTypeInt8 ? static_cast<const int8_t*>(data)[i] : static_cast<const uint8_t*>(data)[i];
    return float(step - tensor.steps.zero) * tensor.steps.scale;
  }

  void close() {
    for (Handle buffer : buffers_) l_.destroy_buffer(buffer);
    if (compiled_ != nullptr) l_.destroy_compiled(compiled_);
    if (options_ != nullptr) l_.destroy_options(options_);
    if (model_ != nullptr) l_.destroy_model(model_);
    if (environment_ != nullptr) l_.destroy_environment(environment_);
  }

  const Library& l_;
  Contract contract_;
  std::vector<uint8_t> bytes_;  // the model points into them
  Handle environment_ = nullptr, model_ = nullptr, options_ = nullptr, compiled_ = nullptr;
  std::vector<Handle> buffers_;
  Tensor input_;
  std::vector<Tensor> outputs_;
};

}  // namespace

std::unique_ptr<Network> open_litert(const Bundle& bundle, int threads, const std::string& path) {
  const Artifact& artifact = bundle.artifact("tflite");
  if (artifact.layout != "NHWC" || artifact.files.size() != 1)
    throw bad_bundle("the manifest's tflite artifact is not of its contract");
  return std::make_unique<LitertNetwork>(bundle, artifact, threads, library(path));
}

}  // namespace mfs

#else

namespace mfs {

std::unique_ptr<Network> open_litert(const Bundle&, int, const std::string&) {
  throw unsupported("this build has no LiteRT: a static program cannot load libraries");
}

}  // namespace mfs

#endif
