"""Which MLPs of a built model become KANs, how they are swapped, and what that cost in parameters."""

from kanmlip.placement.config import HeadConfig, PlacementConfig

__all__ = ["HeadConfig", "PlacementConfig"]
