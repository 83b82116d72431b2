# ncnn cut down to what bundles ask for: included before ncnn's own CMakeLists.txt, or given to `cmake -C` with MFS_TARGET, the
# processor's name, which is not known there yet.
cmake_policy(SET CMP0057 NEW)
if(NOT MFS_TARGET)
  set(MFS_TARGET "${CMAKE_SYSTEM_PROCESSOR}")
endif()

# Layers of our .param files; those that ncnn makes of them or uses inside (Packing, Cast, Flatten, (De|Re)quantize); and those of SCRFD as pnnx
# writes it (Pooling, Permute, Reshape).  A graph with another layer is refused when it is loaded.
set(MFS_NCNN_LAYERS
    BinaryOp Concat Convolution ConvolutionDepthWise Dropout Input Interp Padding ReLU Sigmoid Slice Split TanH
    Cast Dequantize Flatten Packing Quantize Requantize
    Permute Pooling Reshape)
if(MFS_TARGET MATCHES "86|AMD64")
  list(APPEND MFS_NCNN_LAYERS Gemm)  # whose kernels int8 convolutions take on x86
  set(NCNN_RUNTIME_CPU OFF CACHE BOOL "")  # with the baseline alone (see below) there is nothing to choose between
endif()

file(STRINGS ${MFS_NCNN_SOURCE}/src/CMakeLists.txt lines REGEX "^ncnn_add_layer\\(")
foreach(line IN LISTS lines)
  string(REGEX REPLACE "^ncnn_add_layer\\(([A-Za-z0-9]+).*" "\\1" layer "${line}")
  if(NOT layer IN_LIST MFS_NCNN_LAYERS)
    string(TOLOWER ${layer} layer)
    set(WITH_LAYER_${layer} OFF CACHE BOOL "")
  endif()
endforeach()

foreach(option
    VULKAN PYTHON BUILD_TOOLS BUILD_EXAMPLES BUILD_BENCHMARK BUILD_TESTS  # other programs
    PIXEL PIXEL_ROTATE PIXEL_AFFINE PIXEL_DRAWING C_API PLATFORM_API BATCH  # frames are read by mobile_core itself
    BF16 WEIGHT_QUANT  # formats that no recipe writes
    # Processors newer than phones, and on x86, where this only runs tests, anything beyond the baseline: a third of the time to build.
    AVX AVX2 AVX512 FMA F16C XOP ARM86SVE ARM84BF16)
  set(NCNN_${option} OFF CACHE BOOL "")
endforeach()
set(NCNN_VERSION 20261020 CACHE STRING "")  # else it is the day of the build
