"""Adapts an MAE-pretrained Vision Transformer to labelled images with AdaptFormer's parallel adapters."""
