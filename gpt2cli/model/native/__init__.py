"""C++ kernels, compiled by native_kernels.py."""
