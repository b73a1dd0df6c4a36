"""What a ViT learns besides classes."""
