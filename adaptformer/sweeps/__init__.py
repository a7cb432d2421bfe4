"""Searching values of params.yaml: what may vary, which trial comes next, what came of them."""
