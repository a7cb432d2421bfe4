"""Prefect flows, and the commands that start them: `make run`, `make compare`, `make up`."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
"""The root of the checkout: flows belong to it and are no part of the wheel."""
