"""The adapted Vision Transformer: backbone, adapters, head, and the files that they come from and go to."""
