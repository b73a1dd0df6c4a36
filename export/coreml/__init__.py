"""ViT -> .mlpackage, for Core ML."""
