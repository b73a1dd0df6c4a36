"""ViT -> a page for browsers."""
