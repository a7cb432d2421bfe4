"""The checkpoints that come with the package, one safetensors file for each architecture."""
