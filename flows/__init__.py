"""Prefect flows, and the doors that start them: `make run` and `make up`."""
