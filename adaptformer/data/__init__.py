"""From a folder of labelled images to checked, prepared pixels.

In reading order:

- contract.py: how an image becomes the model's input
- decoding.py: file bytes to RGB pixels, or a refusal
- resizing.py: RGB pixels to the square that the model sees
- layout.py: which files of data/ belong to which split and class; replacing data/ whole
- reading.py: size, mode and hash of many files at once
- splits.py: which images leave train for a split that is missing
- manifest.py: one row per image
- schema.py: every fault of a data set at once
- sample.py: the sample data set, the same bytes everywhere
- importing.py: a user's folder into data/
- cache.py: prepared images, decoded once
- augmentation.py: random crops and flips of a batch, with torch
- report.py: the page about a data set

contract, decoding and resizing import only NumPy and Pillow, so that the ONNX predictor starts fast.
"""
