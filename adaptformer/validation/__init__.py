"""Checks of a data set, and the page about it."""
