"""Augmentations and input pipelines, ours, Keras's and timm's -> a Markdown table: CPU time.

python -m benchmarks.augmentation
python -m benchmarks.augmentation --images 512 --rounds 5

Everything runs on one 500x375 JPEG of noise over smooth shapes, generated here. Times are CPU times
of the whole process per image, the medians of interleaved rounds; a row names decoding if it is
included. timm's pipeline is torchvision and Pillow, without a DataLoader's processes. It needs
`.[bench]` and runs in its own process, because TensorFlow and torch cannot share one.
"""

import argparse
import functools
import io
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from tabulate import tabulate

if TYPE_CHECKING:
    import tensorflow as tf

SIZE = (224, 224)  # pixels
BATCH = 32  # images
OURS, KERAS, TIMM = "ours", "Keras layers", "timm"
ROWS = {
    "rand_augment": "RandAugment(2, 9)",
    "load": "decode, random resized crop, flip",
    "imagenet": "decode, random resized crop, flip, RandAugment(2, 9), normalise, MixUp/CutMix",
}
# {"row/contestant": function from a number of batches to those batches}
Tasks = dict[str, Callable[[int], Iterable[Any]]]


def main() -> None:
    """Measures all contestants and prints the table; --timm prints timm's times as JSON."""
    parser = argparse.ArgumentParser("python -m benchmarks.augmentation")
    parser.add_argument("--images", type=int, default=960, help="per round; 960 by default")
    parser.add_argument("--rounds", type=int, default=3, help="3 by default")
    parser.add_argument("--timm", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.timm:
        print(json.dumps(measure(timm_tasks(), arguments.images)))
        return
    from benchmarks.machine import describe_machine

    tasks: Tasks = tensorflow_tasks()
    times: dict[str, list[float]] = {}
    for _ in range(arguments.rounds):
        measured = measure(tasks, arguments.images) | measure_timm(arguments.images)
        for key, milliseconds in measured.items():
            times.setdefault(key, []).append(milliseconds)
    medians = {key: statistics.median(values) for key, values in times.items()}
    table = [
        (title, *(_cell(medians.get(f"{row}/{contestant}")) for contestant in (OURS, KERAS, TIMM)))
        for row, title in ROWS.items()
    ]
    print(f"{describe_machine()}\nCPU milliseconds an image, {SIZE[0]} px\n")
    print(tabulate(table, ("", OURS, KERAS, TIMM), tablefmt="github", disable_numparse=True))


def _cell(milliseconds: float | None) -> str:
    return "" if milliseconds is None else f"{milliseconds:.2f}"


def jpeg() -> bytes:
    """Returns the bytes of a 500x375 JPEG that resembles a photograph."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:375, :500]
    waves = [120 + 80 * np.sin(x / (20 + 9 * k)) * np.cos(y / (31 - 7 * k)) for k in range(3)]
    picture = np.stack(waves, axis=-1) + random.normal(0, 12, (375, 500, 3))
    file = io.BytesIO()
    Image.fromarray(picture.clip(0, 255).astype("uint8")).save(file, "JPEG", quality=90)
    return file.getvalue()


def measure(tasks: Tasks, images: int) -> dict[str, float]:
    """Returns {"row/contestant": CPU milliseconds per image}.

    The first batch of each task is not counted: it contains the start-up.
    """
    times = {}
    for name, run in tasks.items():
        stream = iter(run(1 + images // BATCH))
        next(stream)
        start = time.process_time()
        count = BATCH * sum(1 for _ in stream)
        times[name] = 1e3 * (time.process_time() - start) / count
    return times


def measure_timm(images: int) -> dict[str, float]:
    """Measures timm in a process of its own; returns {} and prints why if that fails."""
    command = [sys.executable, "-m", "benchmarks.augmentation", "--timm", "--images", str(images)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        print(f"without timm: {result.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        return {}
    return json.loads(result.stdout.splitlines()[-1])


def tensorflow_tasks() -> Tasks:
    """Returns this project's and Keras's tasks: tf.data pipelines of batches of BATCH images."""
    import keras
    import tensorflow as tf

    from training.augment import batches as augment
    from training.augment import images as augment_images

    picture = tf.constant(np.asarray(Image.open(io.BytesIO(jpeg())).resize(SIZE)))
    rand_augment = functools.partial(augment_images.rand_augment, layers=2, magnitude=9)
    # Keras's magnitudes are a fraction of 1.
    layer = keras.layers.RandAugment((0, 255), num_ops=2, factor=0.9)

    def batches(function: Callable[["tf.Tensor"], "tf.Tensor"]) -> Callable:
        dataset = tf.data.Dataset.range(2**40).map(function, tf.data.AUTOTUNE).batch(BATCH)
        return dataset.take

    def seed(index: "tf.Tensor") -> "tf.Tensor":
        return tf.stack([0, tf.cast(index, tf.int32)])

    flip = augment_images.flip_image
    return {
        f"rand_augment/{OURS}": batches(lambda index: rand_augment(picture, seed(index))),
        f"rand_augment/{KERAS}": batches(lambda index: layer(picture)),
        f"load/{OURS}": our_pipeline(augment_images=(flip,)),
        f"imagenet/{OURS}": our_pipeline(
            augment_images=(flip, rand_augment), augment=(augment.mixup_or_cutmix,)
        ),
    }


def our_pipeline(**options: Any) -> Callable[[int], "tf.data.Dataset"]:
    """Returns this project's training pipeline with random resized crops of the JPEG.

    Args:
        **options: fields of the recipe.
    """
    import tensorflow as tf

    from training.augment import batches as augment
    from training.data.examples import Examples
    from training.data.pipeline import training_batches
    from training.recipe import Recipe
    from training.tasks.classification import class_targets
    from vit_keras.images.decoding import decode_image
    from vit_keras.images.preprocessing import Preprocessing

    contents = tf.constant([jpeg()] * 2)
    labels, classes, names = np.zeros(2, "int64"), ("a", "b"), ("x", "y")
    examples = Examples(labels, classes, names, lambda index: decode_image(contents[index]))
    recipe = Recipe().replace(batch_size=BATCH, train_crop=augment.random_resized_crop, **options)
    targets = class_targets(recipe, examples)
    return training_batches(examples, recipe, Preprocessing(SIZE), targets, last=2**20).take


def timm_tasks() -> Tasks:
    """Returns timm's tasks: its transforms on Pillow images one by one, its Mixup on batches."""
    import torch

    from benchmarks.timm_vit import timm

    torch.set_num_threads(1)
    content = jpeg()
    options = {
        "input_size": (3, *SIZE),
        "is_training": True,
        "color_jitter": None,
        "scale": (0.2, 1),
        "interpolation": "bilinear",
    }
    plain = timm.data.create_transform(**options)
    # timm's own probability of each operation is 0.5; here each is applied, as in ours.
    strong = timm.data.create_transform(**options, auto_augment="rand-m9-n2-p1.0")
    rand_augment = timm.data.rand_augment_transform("rand-m9-n2-p1.0", {})
    mixup = timm.data.Mixup(mixup_alpha=0.8, cutmix_alpha=1.0, num_classes=1000)
    picture = Image.open(io.BytesIO(content)).resize(SIZE)

    def load(transform: Callable) -> torch.Tensor:
        return transform(Image.open(io.BytesIO(content)).convert("RGB"))

    def batches(function: Callable[[], Any]) -> Callable[[int], Iterable[Any]]:
        return lambda count: (function() for _ in range(count))

    def imagenet() -> tuple[torch.Tensor, torch.Tensor]:
        images = torch.stack([load(strong) for _ in range(BATCH)])
        return mixup(images, torch.zeros(BATCH, dtype=torch.long))

    return {
        f"rand_augment/{TIMM}": batches(lambda: [rand_augment(picture) for _ in range(BATCH)]),
        f"load/{TIMM}": batches(lambda: torch.stack([load(plain) for _ in range(BATCH)])),
        f"imagenet/{TIMM}": batches(imagenet),
    }


if __name__ == "__main__":
    main()
