"""The adapted Vision Transformer: backbone, adapters, head, and the files that store them."""

from adaptformer.base import environment

environment.prepare()
