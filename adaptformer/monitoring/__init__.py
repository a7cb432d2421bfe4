"""Monitoring of a model in use on new, unlabelled images: expected accuracy, drift, and images to label next."""
