"""A small ViT from scratch on 6,000 images of Fashion-MNIST, 28x28 pixels.

python -m training fit fashion_mini     measured: not run yet
"""

from functools import partial

from training.augment import flip, shift
from training.recipe import Recipe

RECIPE = Recipe(
    data="fashion_mini",
    variant="vit_mini7",
    image_size=28,
    channels=1,
    model={"pooling": "mean"},
    augment=(flip, partial(shift, pixels=2)),
    epochs=40,
    batch_size=128,
    learning_rate=2e-3,
    ema=0.99,
)
