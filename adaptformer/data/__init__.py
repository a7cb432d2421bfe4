"""The path of an image from its file to pixels.

In reading order:

- preprocessing.py: how an image becomes the model's input
- decoding.py: file bytes to RGB pixels
- resizing.py: RGB pixels to the square that evaluation sees
- train_images.py: training images that keep their aspect ratio
- layout.py: which files of data/ belong to which split and class
- thread_map.py: work on many files at once, in order
- image_facts.py: size, mode and hash of many files
- splits.py: choice of the train images that form a missing split
- manifest.py: one row per image
- eval_images.py: the squares that evaluation reads, small images kept at their own size
- cache.py: prepared images, decoded once for all runs
- labelled.py: one split's images with their labels
- augmentation.py: random crops and flips, and the tensors that a model takes

contract, decoding and resizing import only NumPy and Pillow, so that the ONNX predictor starts fast.
"""
