"""Names for types that Keras does not name itself."""

from typing import Any

# A tensor of the backend, a symbolic keras.KerasTensor, or an array that Keras converts.
Tensor = Any

# Lengths of a tensor's axes; None where a length is unknown, as the batch's is.
Shape = tuple[int | None, ...]

# Pixels: takes an int for a square or (height, width), and is stored as (height, width).
ImageSize = Any
