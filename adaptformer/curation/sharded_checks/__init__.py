"""Checks of very many images in shards, before or without an import: faults, copies, features."""
