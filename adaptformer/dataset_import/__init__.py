"""Bringing labelled images into data/: class folders, the sample."""
