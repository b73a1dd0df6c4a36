"""Pre-trained weights, fine-tuned on a folder of photographs, one folder a class.

python -m training fit finetune --weights FILE --data FOLDER     measured: not run on published
weights with a public data set yet. All layers have the same learning rate: a few hundred images
need more epochs, or --set learning_rate.
"""

from functools import partial

from training.augment import flip, random_resized_crop
from training.recipe import Recipe

RECIPE = Recipe(
    data="",  # named on the command line
    weights="",  # named on the command line
    image_size=0,  # that of the weights
    train_crop=partial(random_resized_crop, area=(0.35, 1.0)),
    augment=(flip,),
    epochs=10,
    warmup_epochs=1,
    batch_size=64,
    learning_rate=1e-4,
    label_smoothing=0.1,
)
