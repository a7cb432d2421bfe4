"""Delivery: the ONNX file, the gate that it must pass, and the predictor that needs no torch."""
