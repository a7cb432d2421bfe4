"""What a model in use meets: how right it is likely to be on new, unlabelled images, drift, and what to label next."""
