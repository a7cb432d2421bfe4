"""A data set before it is used: imports, checks of any number of images, and labels that are likely wrong."""
