"""The delivered model: its file, its answers to image files, and how long they take, without torch."""

from adaptformer.base import environment

environment.prepare()
