"""Model + its run folder -> model_card.md: what it is, how it was made, what it may be used for."""

import dataclasses
from typing import Any

import keras
import tensorflow as tf
from tabulate import tabulate

from export.endpoints import endpoints_of
from export.labels import class_labels
from export.options import Options
from training.recipe import RunFolder

CARD = """# {name}

| | |
| --- | --- |
{facts}

## Intended use

{intended_use}

## Architecture

{architecture}

## Training

{training}

## Metrics

{metrics}
"""
SHOWN = 20  # class names


def format_card(model: keras.Model, run: RunFolder, options: Options) -> str:
    """The card of a model, Markdown.

    Args:
        model: the trained model.
        run: RunFolder of the model; the card quotes config.json and evaluation.json if they exist.
        options: Options; author, license and version are used.
    """
    endpoints = endpoints_of(model)
    facts = "\n".join(f"| {name} | {value} |" for name, value in _facts(model, options).items())
    architecture = endpoints.architecture(model)
    evaluation = run.read_evaluation() if run.evaluation.exists() else None
    return CARD.format(
        name=model.name,
        facts=facts,
        intended_use=endpoints.intended_use,
        architecture=_two_columns(architecture, ("setting", "value")),
        training=_training(run),
        metrics=(
            endpoints.metrics(evaluation)
            if evaluation
            else "report.md compares every artefact with the Keras model."
        ),
    )


def _facts(model: keras.Model, options: Options) -> dict[str, Any]:
    """{property: its value}."""
    height, width = model.preprocessing.image_size
    fields = dataclasses.asdict(model.preprocessing)
    rule = ", ".join(f"{key} {fields[key]}" for key in ("resize", "crop", "mean", "std"))
    facts = {
        "weights": model.description or "not specified",
        "author": options.author or "not specified",
        "licence of the weights": options.license or "not specified",
        "version": options.version,
        "parameters": f"{model.count_params():,}",
        "arithmetic": f"{flops(model) / 1e9:.3g} GFLOP an image (a multiplication and an addition "
        "count as two)",
        "input": f"{height} x {width} pixels, {model.preprocessing.channels} channel(s), {rule}",
    }
    labels = class_labels(model)
    if labels:
        facts["classes"] = _classes(labels, model.class_names)
    return facts


def _classes(labels: tuple[str, ...], names: tuple[str, ...]) -> str:
    """The number of classes, and the first names where they have names."""
    if not names:
        return str(len(labels))
    shown = [*names[:SHOWN], "..."] if len(names) > SHOWN else names
    return f"{len(labels)}: {', '.join(shown)}"


def flops(model: keras.Model) -> int:
    """Floating-point operations for one image."""
    shape = (1, *model.input_shape[1:])
    graph = tf.function(model.call).get_concrete_function(tf.TensorSpec(shape)).graph
    counting = tf.compat.v1.profiler.ProfileOptionBuilder
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel("ERROR")  # hides the warning that the profiler is of TensorFlow 1
    try:
        options = counting(counting.float_operation()).with_empty_output().build()
        return tf.compat.v1.profiler.profile(graph, options=options).total_float_ops
    finally:
        logger.setLevel(level)


def _training(run: RunFolder) -> str:
    if not run.config.exists():
        return "Not known: there is no config.json next to the model."
    config = run.read_config()
    recipe = config["recipe"].items()
    settings = {key: value for key, value in recipe if value not in (None, "", [], {})}
    return _two_columns(settings | config["versions"], ("setting", "value"))


def _two_columns(values: dict[str, Any], headers: tuple[str, str]) -> str:
    return tabulate(values.items(), headers, "github", disable_numparse=True)
