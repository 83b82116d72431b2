"""Phones' kernels without a phone: the arm64 builds of the runtimes, run by an emulator in user mode."""
