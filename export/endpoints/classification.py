"""ViT with classes -> the functions that its artefacts compute, and how answers are judged."""

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tabulate import tabulate

from export.endpoints.endpoints import Endpoints, Extra
from export.options import Options
from vit_keras.config import ViTConfig
from vit_keras.explain import attention_rollout
from vit_keras.model import HEADS, build_vit
from vit_keras.utils.errors import InputError
from vit_keras.utils.statistics import change_of_accuracy

ATTENTION = "how much each patch counted, in rows and columns; they sum to 1"
INTENDED_USE = """\
To classify images like those it was trained on into the classes above. It assigns one of them to
every image, also to an image of none; its probabilities are not calibrated. How it does on other
images, and on groups of people or things that are rare in its training data, is not known: measure
it with `python -m training evaluate`."""
SIZES = ("patch_size", "width", "depth", "heads", "mlp_width", "pooling")


class ClassificationEndpoints(Endpoints):
    """A ViT's probabilities, judged by accuracy; an attention map and an embedding besides."""

    signature = "classify"
    labelled = True
    bounds = (0.0, 1.0)
    note = """
- **Accuracy** was measured with the artefact itself, in its own runtime (a page's model in LiteRT's
  interpreter); the accuracy of the Keras model is {keras_accuracy:.1%}. The change is that on the
  same images, with its 95 % confidence interval (Agresti and Min, matched pairs).
- **Same label** is the fraction of images with the same most probable class as in Keras."""

    def __init__(self) -> None:
        super().__init__("probabilities", "of each class; they sum to 1")
        self.raw = "logits"
        self.intended_use = INTENDED_USE

    def check(self, model: keras.Model, name: object, options: Options) -> None:
        """Raises InputError for a model without classes."""
        if not model.config.num_classes:
            raise InputError(f"{name} has no classes; build it with num_classes to export it.")

    def inference_model(self, model: keras.Model, merge_tokens: int = 0) -> keras.Model:
        """The ViT in float32, its last block trimmed to the tokens that the head reads."""
        config = model.config.replace(
            merge_tokens=merge_tokens or model.config.merge_tokens,
            trim_last_block=model.config.pooling == "cls",
        )
        in_float32 = all(layer.compute_dtype == "float32" for layer in model.layers)
        if in_float32 and config == model.config:
            return model
        twin = build_vit(
            config,
            preprocessing=model.preprocessing,
            class_names=model.class_names,
            name=model.name,
        )
        twin.set_weights(model.get_weights())
        twin.description = model.description
        return twin

    def merged_tokens(self, model: keras.Model) -> int:
        """Patches that each block of the ViT merges into others."""
        return model.config.merge_tokens

    def labels(self, model: keras.Model) -> tuple[str, ...]:
        """The names of the classes; their numbers where they have no names."""
        return model.class_names or tuple(map(str, range(model.output_shape[-1])))

    def summary(self, model: keras.Model) -> str:
        """The ViT and its sizes in one phrase."""
        config = model.config
        height, width = config.image_size
        return (
            f"Vision Transformer for {height}x{width} pixels: patches of {config.patch_size}, "
            f"width {config.width}, {config.depth} blocks, {config.block.heads} heads, "
            f"{config.num_classes} classes"
        )

    def architecture(self, model: keras.Model) -> dict[str, Any]:
        """The sizes, and the fields of ViTConfig that differ from their defaults."""
        defaults = ViTConfig().to_fields()
        return {
            field: value
            for field, value in model.config.to_fields().items()
            if field in SIZES or value != defaults[field]
        }

    def activate(self, raw: tf.Tensor) -> tf.Tensor:
        """Logits (batch, classes) -> probabilities."""
        return tf.nn.softmax(raw)

    def extras(self, model: keras.Model, options: Options) -> list[Extra]:
        """The attention map, if the options ask for it."""
        if not options.attention:
            return []
        return [
            Extra(
                "attention",
                "attention",
                lambda: functools.partial(attention_rollout, model),
                shape=model.config.grid,
                description=ATTENTION,
                bounds=(0.0, 1.0),
            )
        ]

    def saved_model_extras(self, model: keras.Model, options: Options) -> list[Extra]:
        """The embedding."""
        return [
            Extra(
                "embed",
                "embedding",
                lambda: embedder(model),
                shape=model.get_layer("head").input.shape[1:],
                description="what the classifier reads",
            )
        ]

    def server(
        self, model: keras.Model, options: Options
    ) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
        """The function that adds labels, scores and numbers of the most probable classes."""
        labels = tf.constant(self.labels(model))

        def serve(probabilities):
            scores, classes = tf.math.top_k(probabilities, min(options.top_k, labels.shape[0]))
            return {
                "probabilities": probabilities,
                "classes": classes,
                "labels": tf.gather(labels, classes),
                "scores": scores,
            }

        return serve

    def served_description(self, model: keras.Model, options: Options) -> str:
        """What the byte signatures of a SavedModel return, Markdown."""
        classes = len(self.labels(model))
        top = min(options.top_k, classes)
        return (
            f"`probabilities` (batch, {classes}) in the order of the classes; `labels`, `scores` "
            f"and `classes` (their numbers) of the best {top}, best first, (batch, {top})"
        )

    def client_lines(self) -> str:
        """Lines of Python that print labels and scores."""
        return (
            'labels, scores = (tf.make_ndarray(answer.outputs[name]) for name in ("labels", '
            '"scores"))\n'
            "for label, score in zip(labels[0], scores[0]):\n"
            "    print(label.decode(), score)"
        )

    def rest_answer(self) -> str:
        """The answer of TF Serving's REST interface to one image."""
        return (
            '{"predictions": [{"labels": [...], "scores": [...], "classes": [...],\n'
            '"probabilities": [...]}]}'
        )

    def quality(
        self, answers: np.ndarray, expected: np.ndarray, labels: np.ndarray | None
    ) -> float:
        """The mean probability of the right class.

        It moves with every image, where accuracy on a few hundred images moves in steps. Without
        labels, the right class is the most probable one in float32.
        """
        right = expected.argmax(axis=1) if labels is None else labels
        return float(np.take_along_axis(answers, right[:, np.newaxis], axis=1).mean())

    def distance(self, answers: np.ndarray, expected: np.ndarray) -> float:
        """The probability that moves to other classes, on average."""
        return float(np.abs(answers - expected).sum(axis=1).mean() / 2)

    def judge(
        self,
        answers: list[tuple[str, np.ndarray]],
        expected: dict[str, np.ndarray],
        labels: np.ndarray | None,
    ) -> dict[str, Any]:
        """Agreement of the most probable class, accuracies, and their change with its interval."""
        of_classes = [(name, array) for name, array in answers if self._names_classes(name)]
        agreements = [
            (array.argmax(axis=1) == expected[name].argmax(axis=1)).mean()
            for name, array in of_classes
        ]
        logits = expected["logits of pixels"]
        right = logits.argmax(axis=1) if labels is None else labels
        of_pixels = next(array for name, array in of_classes if name.endswith("of pixels"))
        before = logits.argmax(axis=1) == right
        after = of_pixels.argmax(axis=1) == right
        change, *interval = change_of_accuracy(before, after)
        return {
            "top1_agreement": float(np.min(agreements)),
            "keras_accuracy": float(before.mean()),
            "accuracy": float(after.mean()),
            "change": change,
            "interval": interval,
        }

    def _names_classes(self, name: str) -> bool:
        return name.split(" of ")[0] in (self.output, self.raw)

    def loss(self, row: dict[str, Any], options: Options) -> str:
        """The accuracy that is lost, where it is more than options.max_drop."""
        if -row["change"] <= options.max_drop + 1e-9:
            return ""
        return (
            f"has an accuracy of {row['accuracy']:.1%} on {row['images']} images, Keras "
            f"{row['keras_accuracy']:.1%}"
        )

    def cells(self, row: dict[str, Any]) -> dict[str, str]:
        """Accuracy, its change, and the agreement of labels."""
        low, high = (f"{100 * end:+.1f}" for end in row["interval"])
        return {
            "accuracy": f"{row['accuracy']:.1%}",
            "change, points (95 %)": f"{100 * row['change']:+.1f} ({low} to {high})",
            "same label": f"{row['top1_agreement']:.1%}",
        }

    def metrics(self, evaluation: dict[str, Any]) -> str:
        """Accuracy, and a table of precision, recall and F1 by class."""
        rows = [(name, *scores.values()) for name, scores in evaluation["per_class"].items()]
        headers = ("class", "precision", "recall", "F1", "images")
        return (
            f"Accuracy {evaluation['accuracy']:.1%} on {evaluation['images']:,} images "
            f"({evaluation['split']} split); report.md has the accuracy of every artefact.\n\n"
            + tabulate(rows, headers, "github", floatfmt=".3f")
        )


def embedder(model: keras.Model) -> keras.Model:
    """ViT -> model of the same input whose output is what the head reads, (batch, width).

    Of two heads it is the mean of what they read.
    """
    heads = HEADS if model.config.distilled else HEADS[:1]
    pooled = [model.get_layer(name).input for name in heads]
    output = keras.layers.Average()(pooled) if len(pooled) > 1 else pooled[0]
    return keras.Model(model.input, output)
