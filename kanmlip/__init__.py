"""kanmlip: do Kolmogorov-Arnold networks belong in machine-learned interatomic potentials?

Importing the package imports nothing heavy; ``kanmlip.kan`` holds the layers and needs only torch.
"""

from __future__ import annotations

__version__ = "0.1.0"
