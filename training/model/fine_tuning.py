"""Model + fine-tuning options -> the same model with only some of its weights trainable."""

from typing import TYPE_CHECKING

from vit_keras.config import ViTConfig
from vit_keras.model import HEADS
from vit_keras.utils.errors import InputError

if TYPE_CHECKING:
    from training.model.options import FineTuningOptions
    from vit_keras import ViT

AFTER_BLOCKS = ("norm", "pool", "pool_dist", "pre_logits", "pre_logits_dist", *HEADS)


def restrict(model: "ViT", options: "FineTuningOptions") -> None:
    """Makes only the chosen weights trainable, and adds LoRA's matrices.

    A model with LoRA (arXiv:2106.09685) is saved and loaded like one without: its matrices with
    the additions added.

    Args:
        model: ViT.
        options: FineTuningOptions.

    Raises:
        InputError: as `check_trainable`.
    """
    if options.trainable == "full":
        return
    check_trainable(options, model.config)
    trainable: tuple[str, ...] = HEADS
    if options.trainable == "last_blocks":
        depth = model.config.depth
        blocks = (f"block_{depth - 1 - index}" for index in range(options.trainable_blocks))
        trainable = (*AFTER_BLOCKS, *blocks)
    for layer in model.layers:
        if layer.name not in trainable:
            for weight in layer.weights:
                weight.trainable = False
    if options.trainable == "lora":
        for index in range(model.config.depth):
            block = model.get_layer(f"block_{index}")
            attention, mlp = block.attention, block.mlp
            for dense in (attention.qkv, attention.projection, mlp.expand, mlp.reduce):
                dense.enable_lora(options.lora_rank)


def check_trainable(options: "FineTuningOptions", config: ViTConfig) -> None:
    """Checks that the model has as many blocks as are to be trained.

    Raises:
        InputError: where it has fewer.
    """
    if options.trainable == "last_blocks" and options.trainable_blocks > config.depth:
        raise InputError(
            f"the model has {config.depth} blocks. Got trainable_blocks={options.trainable_blocks}."
        )
