"""Keyword arguments or a BlockConfig -> the options of a layer."""

import dataclasses
from typing import Any, ClassVar

import keras

from vit_keras.config import BlockConfig
from vit_keras.utils.errors import InputError

SIZES = ("heads", "mlp_width")  # fields of BlockConfig without a default that fits every width


class BlockLayer(keras.layers.Layer):
    """Base class of layers whose options are fields of a BlockConfig.

    The options come as keyword arguments, as one `block`, or as a `block` with some of its fields
    replaced. Keras saves them as keyword arguments.

    Args:
        block: BlockConfig; None for the defaults.
        **options: keyword arguments of `block_arguments`, and those of every Keras layer.

    Raises:
        InputError: for a missing size, or a value that BlockConfig refuses.
    """

    # {keyword argument of the layer: field of BlockConfig}
    block_arguments: ClassVar[dict[str, str]] = {}

    def __init__(self, block: BlockConfig | None = None, **options: Any) -> None:
        values = {field: options.pop(name, None) for name, field in self.block_arguments.items()}
        super().__init__(**options)
        fields = {field: value for field, value in values.items() if value is not None}
        for name, field in self.block_arguments.items():
            if block is None and field in SIZES and field not in fields:
                raise InputError(
                    f"{type(self).__name__} needs {name}, or block=BlockConfig(...). Got neither."
                )
        self.block = dataclasses.replace(block or BlockConfig(), **fields)

    def get_config(self) -> dict[str, Any]:
        own = {name: getattr(self.block, field) for name, field in self.block_arguments.items()}
        return {**super().get_config(), **own}
