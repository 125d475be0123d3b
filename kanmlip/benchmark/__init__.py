"""Timings and memory: always paired ratios."""
