"""Measurements whose figures the pages quote: `make bench`, or `python -m benchmarks.NAME`."""
