"""Export: the ONNX file, the parity check that it must pass, and the predictor that needs no torch."""

from adaptformer.base import environment

environment.prepare()
