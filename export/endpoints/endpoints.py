"""Model -> the functions that its artefacts compute, and how their answers are judged: any task.

A model has one answer to an image, the activation of its output. Artefacts compute it for pixels
(.tflite, .onnx) or for image files (SavedModel). A task may return more with it, add extra outputs,
and judge answers by more than their difference from Keras.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from export.options import Options
from vit_keras.utils.errors import InputError


@dataclasses.dataclass(frozen=True)
class Extra:
    """An output besides a model's answer.

    Attributes:
        signature: the signature of a SavedModel that returns it, for image files.
        output: its name.
        build: builds the function that computes it: normalised images (batch, height, width,
            channels) -> tensor.
        shape: of the tensor, without the batch.
        description: a phrase.
        bounds: the least and greatest value, or None.
    """

    signature: str
    output: str
    build: Callable[[], Callable[[tf.Tensor], tf.Tensor]]
    shape: tuple[int, ...]
    description: str
    bounds: tuple[float, float] | None = None


class Endpoints:
    """The export side of a task.

    This class itself is for a model with one output of numbers, which is its answer: there are no
    classes, and artefacts are judged by the largest difference from Keras. A task with more derives
    a class. The model needs the attributes `task`, `preprocessing` and `description`.

    Args:
        output: the name of the answer in every artefact.
        description: of the answer, a phrase.

    Attributes:
        output, description: the arguments.
        raw: the name of the model's own output, before the activation.
        bounds: the least and greatest value of an answer, or None.
        signature: the name of the signature of a .tflite file.
        labelled: whether the classes of a dataset's images are the targets.
        note: what report.md says about the columns of `cells`, Markdown.
        intended_use: a paragraph of the model card.
    """

    signature = "predict"
    labelled = False
    bounds: tuple[float, float] | None = None
    note = ""

    def __init__(self, output: str, description: str = "") -> None:
        self.output = output
        self.description = description
        self.raw = output
        self.intended_use = (
            f"To find the {output} of images like those it was trained on. How it does on other "
            "images is not known: measure it with `python -m training evaluate`."
        )

    # Models

    def check(self, model: keras.Model, name: object, options: Options) -> None:
        """Raises InputError for a model that cannot be exported; `name` is for the message."""
        if options.attention:
            raise InputError(f"{name} has no attention map to export; leave out --attention.")

    def inference_model(self, model: keras.Model, merge_tokens: int = 0) -> keras.Model:
        """A model of the same weights as artefacts compute it.

        Args:
            model: the trained model.
            merge_tokens: patches that each block merges into others; 0 for the model's own number.

        Raises:
            InputError: for a model that cannot merge tokens.
        """
        if merge_tokens:
            raise InputError(f"{model.name} cannot merge tokens; leave out --merge-tokens.")
        return model

    def merged_tokens(self, model: keras.Model) -> int:
        """Patches that each block of the model merges into others."""
        return 0

    def labels(self, model: keras.Model) -> tuple[str, ...]:
        """The names of the values of an answer, in order; () where they have none."""
        return ()

    def summary(self, model: keras.Model) -> str:
        """The model in one phrase."""
        height, width = model.preprocessing.image_size
        return f"model for {height}x{width} pixels"

    def architecture(self, model: keras.Model) -> dict[str, Any]:
        """{name of a setting: its value}, for the model card."""
        return {"input shape": model.input_shape, "output shape": model.output_shape}

    # Functions of tensors

    def activate(self, raw: tf.Tensor) -> tf.Tensor:
        """Outputs of the model (batch, ...) -> answers."""
        return raw

    def extras(self, model: keras.Model, options: Options) -> list[Extra]:
        """What every artefact of the model returns besides its answer."""
        return []

    def saved_model_extras(self, model: keras.Model, options: Options) -> list[Extra]:
        """What only a SavedModel returns."""
        return []

    def server(
        self, model: keras.Model, options: Options
    ) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
        """The function of answers to what the byte signatures of a SavedModel return."""
        return lambda answers: {self.output: answers}

    # Words for the users of a SavedModel

    def served_description(self, model: keras.Model, options: Options) -> str:
        """What the byte signatures of a SavedModel return, Markdown."""
        shape = shape_text(model.output_shape[1:])
        return f"`{self.output}` ({shape}), {self.description}"

    def client_lines(self) -> str:
        """Lines of Python that print the answer of TF Serving to one image."""
        return f'print(tf.make_ndarray(answer.outputs["{self.output}"])[0])'

    def rest_answer(self) -> str:
        """The answer of TF Serving's REST interface; it names outputs where there are several."""
        return '{"predictions": [[...]]}'

    # Judgement

    def quality(
        self, answers: np.ndarray, expected: np.ndarray, labels: np.ndarray | None
    ) -> float:
        """How good answers are, for the search for int8: higher is better, 1 is best.

        Args:
            answers: of a quantised model, (count, ...).
            expected: of the float32 model, (count, ...).
            labels: int64 (count,), or None.
        """
        return 1 - self.distance(answers, expected)

    def distance(self, answers: np.ndarray, expected: np.ndarray) -> float:
        """How far answers (count, ...) are from those of the float32 model, on average."""
        return float(np.abs(answers - expected).mean() / unit_of(expected))

    def judge(
        self,
        answers: list[tuple[str, np.ndarray]],
        expected: dict[str, np.ndarray],
        labels: np.ndarray | None,
    ) -> dict[str, Any]:
        """Fields of the report besides the largest difference from Keras.

        Args:
            answers: of the artefact, [(key of `expected`, array), ...].
            expected: the Keras model's answers, see `export.checks.verify.Samples`.
            labels: int64 (count,) of the pixels, or None.
        """
        return {}

    def loss(self, row: dict[str, Any], options: Options) -> str:
        """What an artefact loses beyond options.max_drop, in words, or "".

        Args:
            row: what `export.checks.verify.judge` returns.
            options: Options.
        """
        if row["max_difference"] <= options.max_drop:
            return ""
        return f"differs from Keras by up to {row['max_difference']:.1e}"

    def cells(self, row: dict[str, Any]) -> dict[str, str]:
        """{heading: cell} of the fields that `judge` added to a row of the report."""
        return {}

    def metrics(self, evaluation: dict[str, Any]) -> str:
        """evaluation.json of a run folder -> Markdown for the model card."""
        numbers = {key: x for key, x in evaluation.items() if isinstance(x, int | float)}
        return "\n".join(f"- {key}: {value:.4g}" for key, value in numbers.items())


def unit_of(expected: np.ndarray) -> float:
    """The largest of the expected answers, if that is above 1: the unit of their differences."""
    return max(1.0, np.abs(expected).max())


def shape_text(shape: tuple[int, ...]) -> str:
    """A shape without its batch, as documents write it: (10,) -> "batch, 10"."""
    return ", ".join(["batch", *map(str, shape)])


def largest_difference(
    answers: list[tuple[str, np.ndarray]], expected: dict[str, np.ndarray]
) -> float:
    """The largest absolute difference of an artefact's answers from Keras's.

    Args:
        answers: [(name, array), ...]; those whose name is not expected are not compared.
        expected: {name: array}.

    Returns:
        the difference, in units of the largest expected value if that is above 1.
    """
    differences = [
        np.abs(array - expected[name]).max() / unit_of(expected[name])
        for name, array in answers
        if name in expected
    ]
    return float(np.max(differences))
