"""Predictions of very many images, a shard at a time, by the processes of one machine or a cluster."""
