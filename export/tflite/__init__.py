"""ViT -> .tflite in float and with fewer bits."""
