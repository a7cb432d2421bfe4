"""Predictions for very many images, shard by shard, by the processes of one machine or a cluster."""

from adaptformer.base import environment

environment.prepare()
