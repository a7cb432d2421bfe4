"""Checks of a data set, and its report page."""
