"""The fixtures of exported models."""

from exported_models import card, elsewhere, images, large_file, model, onnx_file, photos, written

__all__ = ["card", "elsewhere", "images", "large_file", "model", "onnx_file", "photos", "written"]
