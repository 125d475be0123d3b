"""Datasets, splits, neighbour lists and statistics."""
