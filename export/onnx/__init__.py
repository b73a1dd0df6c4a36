"""ViT -> .onnx."""
