"""Records of runs in MLflow and DVC; only this package and registry/ may import either of them."""

from adaptformer.base import environment

environment.prepare()
