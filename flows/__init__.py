"""Prefect flows, and what starts them: `make run`, `make compare`, `make up`."""
