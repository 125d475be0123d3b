"""ETGNN, a network of ours for tensors such as Born effective charges: one block a file, settings in ``config``."""

from kanmlip.models.etgnn.config import ETGNN

__all__ = ["ETGNN"]
