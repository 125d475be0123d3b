"""Triton kernels of the contractions; imported by ``backend_triton`` only, as the package triton need not be there."""
