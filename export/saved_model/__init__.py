"""ViT -> SavedModel and the kit to serve it."""
