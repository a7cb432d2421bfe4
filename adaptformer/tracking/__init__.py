"""What MLflow and DVC record of runs; with registry/, all that may import either."""
