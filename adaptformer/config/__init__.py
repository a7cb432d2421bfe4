"""Params, presets, the run folder, a method in words."""
