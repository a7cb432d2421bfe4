"""Training: a schedule of phases, a resumable loop, its history."""

from adaptformer.base import environment

environment.prepare()
