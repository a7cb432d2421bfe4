"""Adapts an MAE-pretrained Vision Transformer to labelled images with AdaptFormer's parallel adapters."""

import os

# OpenMP reads it as torch is loaded. By default its threads spin while they wait: beside any other busy process a
# training step then takes ten times as long. Sleeping threads cost next to nothing on an idle machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
