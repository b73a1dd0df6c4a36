"""Tensors -> tensors: the layers of a ViT."""
