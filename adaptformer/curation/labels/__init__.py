"""Search for labels that are likely wrong, and the accuracy of the frozen backbone before any training."""
