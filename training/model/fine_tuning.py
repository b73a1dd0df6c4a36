"""Model + a recipe's `tune` -> the same model with only some of its weights to be trained."""

from vit_keras.utils.errors import InputError

HEADS = ("head", "head_dist")
BEHIND_BLOCKS = ("norm", "pool", "pool_dist", "pre_logits", "pre_logits_dist", *HEADS)


def restrict(model, tune):
    """Leaves only those weights trainable that `tune` names; LoRA's additions are put in.

    A model with LoRA (arXiv:2106.09685) saves, and loads, as one without: its matrices with the
    additions added.

    Args:
        model: ViT.
        tune: "full", "last-N-blocks" or "lora-R", as in `Recipe`.

    Raises:
        InputError: as `check_tune`.
    """
    if tune == "full":
        return
    check_tune(tune, model.config)
    number = _number(tune)
    trained: tuple[str, ...] = HEADS
    if tune.startswith("last"):
        depth = model.config.depth
        trained = (*BEHIND_BLOCKS, *(f"block_{depth - 1 - index}" for index in range(number)))
    for layer in model.layers:
        if layer.name not in trained:
            for weight in layer.weights:
                weight.trainable = False
    if tune.startswith("lora"):
        for index in range(model.config.depth):
            block = model.get_layer(f"block_{index}")
            for dense in (block.attention.qkv, block.attention.projection,
                          block.mlp.expand, block.mlp.reduce):  # fmt: skip
                dense.enable_lora(number)


def check_tune(tune, config):
    """Refuses to train more blocks than a model of this ViTConfig has.

    Raises:
        InputError: for "last-N-blocks" with an N that is too large.
    """
    if tune.startswith("last") and _number(tune) > config.depth:
        raise InputError(f"the model has {config.depth} blocks. Got tune={tune!r}.")


def _number(tune):
    return int("".join(filter(str.isdigit, tune)))
