"""Thin Prefect tasks around the library's stages, and what they record: DVC, MLflow, the model registry."""
