"""Import of labelled images into data/, and changes of data/: additions, relabelling, deduplication."""
