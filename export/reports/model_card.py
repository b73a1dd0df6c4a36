"""ViT + its run folder -> model_card.md: what it is, how it was made, what it may be used for."""

import dataclasses
import json
import pathlib

import tensorflow as tf
from tabulate import tabulate

from vit_keras.config import ViTConfig

CARD = """# {name}

| | |
| --- | --- |
| weights | {description} |
| author | {author} |
| licence of the weights | {license} |
| version | {version} |
| parameters | {parameters:,} |
| arithmetic | {gflops:.3g} GFLOP an image (a multiplication and an addition count as two) |
| input | {height} x {width} pixels, {channels} channel(s), {preprocessing} |
| classes | {classes} |

## Intended use

To tell the classes above apart in images like those it was trained on. It gives every image one of
them, also an image of none; its probabilities are not calibrated. How it does on other images, and
on groups of people or things that its data has few of, is not known: measure it with
`python -m training evaluate`.

## Architecture

{architecture}

## Training

{training}

## Metrics

{metrics}
"""
SHOWN = 20  # class names


def format_card(model, run, options):
    """The card of a ViT as Markdown.

    Args:
        model: ViT.
        run: its run folder, whose config.json and evaluation.json are told, if they are there.
        options: Options.
    """
    config, preprocessing = model.config, model.preprocessing
    height, width = config.image_size
    names = list(model.class_names[:SHOWN]) + ["..."] * (len(model.class_names) > SHOWN)
    fields = dataclasses.asdict(preprocessing)
    return CARD.format(
        name=model.name,
        description=model.description or "not told",
        author=options.author or "not told",
        license=options.license or "not told",
        version=options.version,
        parameters=model.count_params(),
        gflops=flops(model) / 1e9,
        height=height,
        width=width,
        channels=config.channels,
        preprocessing=", ".join(
            f"{key} {fields[key]}" for key in ("resize", "crop", "mean", "std")
        ),
        classes=f"{config.num_classes}" + (f": {', '.join(names)}" if names else ""),
        architecture=_architecture(config),
        training=_training(run),
        metrics=_metrics(run),
    )


def flops(model):
    """Floating-point operations for one image"""
    shape = (1, *model.input_shape[1:])
    graph = tf.function(model.call).get_concrete_function(tf.TensorSpec(shape)).graph
    counting = tf.compat.v1.profiler.ProfileOptionBuilder
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel("ERROR")  # that it is of version 1 is no news to the user
    try:
        options = counting(counting.float_operation()).with_empty_output().build()
        return tf.compat.v1.profiler.profile(graph, options=options).total_float_ops
    finally:
        logger.setLevel(level)


def _architecture(config):
    """What differs from the defaults of a ViTConfig, and the sizes"""
    sizes = ("patch_size", "width", "depth", "heads", "mlp_width", "pooling")
    defaults = ViTConfig().to_fields()
    rows = {
        field: value
        for field, value in config.to_fields().items()
        if field in sizes or value != defaults[field]
    }
    return tabulate(rows.items(), ("field of ViTConfig", "value"), "github", disable_numparse=True)


def _training(run):
    told = _read(run, "config.json")
    if not told:
        return "Not told: there is no config.json beside the model."
    rows = {key: value for key, value in told["recipe"].items() if value not in (None, "", [], {})}
    rows |= told["versions"]
    return tabulate(rows.items(), ("setting", "value"), "github", disable_numparse=True)


def _metrics(run):
    told = _read(run, "evaluation.json")
    if not told:
        return "report.md has the accuracy of every artefact."
    rows = [(name, *scores.values()) for name, scores in told["per_class"].items()]
    return (
        f"Accuracy {told['accuracy']:.1%} on {told['images']:,} images ({told['split']} split); "
        f"report.md has that of every artefact.\n\n"
        + tabulate(rows, ("class", "precision", "recall", "F1", "images"), "github", floatfmt=".3f")
    )


def _read(run, name):
    """A JSON file of the run folder, or None where there is none"""
    path = pathlib.Path(run) / name
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
