"""python -m training fit | evaluate | predict"""

import os
import pathlib

import click

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # no start-up chatter from TensorFlow

# TensorFlow takes seconds to import: each command imports what it needs, and --help nothing.


class Group(click.Group):
    """Prints a user's mistake as one line and exits with 1; leaves the traceback of a defect."""

    def invoke(self, ctx):
        try:
            return super().invoke(ctx)
        except OSError as error:
            raise click.ClickException(str(error)) from error
        except ValueError as error:
            from vit_keras.errors import InputError

            if not isinstance(error, InputError):
                raise
            raise click.ClickException(str(error)) from error


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
def main():
    """Trains Vision Transformers on labelled images, and tries them out."""


@main.command("fit")
@click.argument("recipe", metavar="RECIPE")
@click.option("--data", help="fashion_mini, fashion_mnist, tfds:NAME, or a folder of images.")
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Replace a field of the recipe."
)
@click.option(
    "--out", type=click.Path(path_type=pathlib.Path), help="Run folder; runs/RECIPE by default."
)
def fit_command(recipe, data, overrides, out):
    """Train by RECIPE, a file of training/recipes, into a run folder.

    The folder gets the best model (model.keras), its evaluation, curves and a report.
    """
    from training.fit import fit
    from training.recipe import load_recipe

    if data is not None:
        overrides = (f"data={data}", *overrides)
    loaded = load_recipe(recipe, overrides)
    out = out or _free_folder(pathlib.Path("runs") / recipe)
    try:
        fit(loaded, out)
    except KeyboardInterrupt:
        kept = out / "model.keras"
        state = f"the best model so far is {kept}" if kept.exists() else "no model was saved yet"
        click.echo(f"\nInterrupted; {state}.", err=True)
        raise SystemExit(130) from None


@main.command("evaluate")
@click.argument("model", type=click.Path(exists=True, dir_okay=False))
@click.option("--data", required=True, help="As for fit; the classes are matched by name.")
@click.option("--split", type=click.Choice(["train", "validation", "test"]))
@click.option("--data-dir", default="", help="Where TFDS or fashion_mnist keeps its files.")
@click.option("--out", type=click.Path(path_type=pathlib.Path), help="JSON file to write.")
def evaluate_command(model, data, split, data_dir, out):
    """Print accuracy, and precision and recall per class, of MODEL (a .keras file)."""
    from training.evaluate import (
        evaluate,
        format_evaluation,
        load_evaluation_split,
        load_model,
        predict_probabilities,
    )
    from vit_keras.files import write_json

    loaded = load_model(model)
    examples, unreadable = load_evaluation_split(loaded, data, split, data_dir=data_dir)
    evaluation = evaluate(predict_probabilities(loaded, examples), examples)
    evaluation["unreadable"] = unreadable
    click.echo(format_evaluation(evaluation))
    for name, reason in unreadable.items():
        click.echo(f"left out: {name}: {reason}", err=True)
    if out:
        write_json(out, evaluation)


@main.command("predict")
@click.argument("model", type=click.Path(exists=True, dir_okay=False))
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option("--top", default=3, type=click.IntRange(min=1), help="Classes to print.")
def predict_command(model, images, top):
    """Print the most probable classes of image files, folders or globs."""
    from training.evaluate import load_model
    from training.predict import find_images, predict
    from vit_keras.errors import InputError

    loaded = load_model(model)
    failed = False
    for path in find_images(images):
        try:
            classes = predict(loaded, path, top)
        except InputError as error:
            failed = True
            click.echo(f"Error: {error}", err=True)
        else:
            listed = ", ".join(f"{name} {probability:.1%}" for name, probability in classes)
            click.echo(f"{path}: {listed}")
    if failed:
        raise SystemExit(1)


def _free_folder(folder):
    """The folder, or the first of folder-2, folder-3, ... that does not exist"""
    number = 1
    candidate = folder
    while candidate.exists():
        number += 1
        candidate = folder.with_name(f"{folder.name}-{number}")
    return candidate


if __name__ == "__main__":
    main(prog_name="python -m training")
