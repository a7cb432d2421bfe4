"""Registered models: versions, the gate's decisions, promotion, rollback, history, lineage."""

from adaptformer.base import environment

environment.prepare()
