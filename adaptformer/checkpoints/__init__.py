"""Pretrained checkpoints: catalogue, source, download, translation; and the file that comes with the package."""
