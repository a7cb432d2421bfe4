"""Pretrained checkpoints: catalogue, source, download and translation, and the checkpoint bundled with the package."""

from adaptformer.base import environment

environment.prepare()
