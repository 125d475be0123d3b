"""The compiled CPU kernels: C++ sources, and what builds them on first use."""
