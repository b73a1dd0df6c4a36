"""A small CCT from scratch on Fashion-MNIST, 28x28 pixels, in ten minutes of two cores.

python -m training fit fashion_mnist --data tfds:fashion_mnist

A CCT-2/3x2 (arXiv:2104.05704) of three quarters of its width: convolutions learn from few passes.
Muon made five passes worth nine of AdamW. TensorFlow's convolutions are faster than XLA's on CPUs.
"""

from training.augment import flip
from training.recipe import Recipe

RECIPE = Recipe(
    data="fashion_mnist",
    validation_fraction=0.05,
    variant="cct_2_3x2",
    image_size=28,  # pixels
    channels=1,
    model={"width": 96, "heads": 3, "mlp_width": 192, "stem_width": 32},
    mean=(0.286,),  # of the training images
    std=(0.353,),
    augment=(flip,),
    epochs=5,
    warmup_epochs=1,
    batch_size=64,
    optimizer="muon",
    learning_rate=4e-3,
    beta_2=0.99,
    jit=False,
)
