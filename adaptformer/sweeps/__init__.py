"""Sweeps, which search values of params.yaml: the search space, the trials and their results."""
