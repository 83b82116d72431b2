"""The runtimes' arm64 builds, run by an emulator in user mode: a phone's kernels without a phone."""
