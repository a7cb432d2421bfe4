"""The adapted Vision Transformer: backbone, adapters, head, and the files that store them."""
