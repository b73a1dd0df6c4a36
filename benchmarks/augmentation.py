"""Augmentations and whole pipelines, beside Keras's layers and timm's -> CPU time an image.

python -m benchmarks.augmentation
python -m benchmarks.augmentation --images 512 --rounds 5

Everything runs on one 500x375 JPEG of noise over smooth shapes, made here; times are of the whole
process's CPU, decoding included where the row says so, median over interleaved rounds. timm's
pipeline is torchvision's and Pillow's, without a DataLoader's processes; it needs `.[bench]`, and
runs in a process of its own, since TensorFlow and torch do not go together.
"""

import argparse
import functools
import io
import json
import statistics
import subprocess
import sys
import time

import numpy as np
from PIL import Image
from tabulate import tabulate

SIZE = (224, 224)  # pixels
BATCH = 32  # images
OURS, KERAS, TIMM = "ours", "Keras layers", "timm"


def main():
    parser = argparse.ArgumentParser("python -m benchmarks.augmentation")
    parser.add_argument("--images", type=int, default=960, help="a round; 960 by default")
    parser.add_argument("--rounds", type=int, default=3, help="3 by default")
    parser.add_argument("--timm", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.timm:
        print(json.dumps(measure(timm_tasks(), arguments.images)))
        return
    from benchmarks.machine import describe_machine

    tasks, times = tensorflow_tasks(), {}
    for _ in range(arguments.rounds):
        found = measure(tasks, arguments.images) | _timm(arguments.images)
        for key, milliseconds in found.items():
            times.setdefault(key, []).append(milliseconds)
    medians = {key: statistics.median(values) for key, values in times.items()}
    rows = sorted({row for row, _ in map(_split, medians)}, key=list(ROWS).index)
    table = [
        (ROWS[row], *(_cell(medians.get(f"{row}/{who}")) for who in (OURS, KERAS, TIMM)))
        for row in rows
    ]
    print(f"{describe_machine()}\nCPU milliseconds an image, {SIZE[0]} px\n")
    print(tabulate(table, ("", OURS, KERAS, TIMM), tablefmt="github", disable_numparse=True))


ROWS = {
    "rand_augment": "RandAugment(2, 9)",
    "load": "decode, random resized crop, flip",
    "imagenet": "decode, random resized crop, flip, RandAugment(2, 9), normalise, MixUp/CutMix",
}


def jpeg():
    """The bytes of a 500x375 photograph-like JPEG."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:375, :500]
    waves = [120 + 80 * np.sin(x / (20 + 9 * k)) * np.cos(y / (31 - 7 * k)) for k in range(3)]
    picture = np.stack(waves, axis=-1) + random.normal(0, 12, (375, 500, 3))
    file = io.BytesIO()
    Image.fromarray(picture.clip(0, 255).astype("uint8")).save(file, "JPEG", quality=90)
    return file.getvalue()


def measure(tasks, images):
    """{"row/contestant": function(batches) -> iterable of them} -> {the same: CPU ms an image}

    The first batch of each, which comes with starting up, is not counted.
    """
    times = {}
    for name, run in tasks.items():
        stream = iter(run(1 + images // BATCH))
        next(stream)
        start = time.process_time()
        count = BATCH * sum(1 for _ in stream)
        times[name] = 1e3 * (time.process_time() - start) / count
    return times


def tensorflow_tasks():
    """Ours and Keras's, each as a tf.data pipeline of maps, in batches of BATCH"""
    import keras
    import tensorflow as tf

    from training.augment import batches as augment
    from training.augment import images as augment_images
    from training.data.examples import Examples
    from training.data.pipeline import training_batches
    from training.recipe import Recipe
    from vit_keras.images.decoding import decode_image
    from vit_keras.images.preprocessing import Preprocessing

    content = jpeg()
    contents = tf.constant([content, content])
    picture = tf.constant(np.asarray(Image.open(io.BytesIO(content)).resize(SIZE)))

    def batches(function):
        dataset = tf.data.Dataset.range(2**40).map(function, tf.data.AUTOTUNE).batch(BATCH)
        return dataset.take

    rand_augment = functools.partial(augment_images.rand_augment, layers=2, magnitude=9)
    # Keras's magnitudes are a fraction of 1.
    layer = keras.layers.RandAugment((0, 255), num_ops=2, factor=0.9)
    examples = Examples(
        np.zeros(2, "int64"), ("a", "b"), ("x", "y"), lambda index: decode_image(contents[index])
    )

    def pipeline(**options):
        recipe = Recipe(batch_size=BATCH, train_crop=augment.random_resized_crop, **options)
        return training_batches(examples, recipe, Preprocessing(SIZE), 2**20).take

    def seed(index):
        return tf.stack([0, tf.cast(index, tf.int32)])

    return {
        f"rand_augment/{OURS}": batches(lambda index: rand_augment(picture, seed(index))),
        f"rand_augment/{KERAS}": batches(lambda index: layer(picture)),
        f"load/{OURS}": pipeline(augment_images=(augment_images.flip_image,)),
        f"imagenet/{OURS}": pipeline(
            augment_images=(augment_images.flip_image, rand_augment),
            augment=(augment.mixup_or_cutmix,),
        ),
    }


def timm_tasks():
    """timm's transforms on Pillow images, one after another, and its Mixup on batches"""
    import torch

    from benchmarks.timm_vit import timm

    torch.set_num_threads(1)
    content = jpeg()
    options = {
        "input_size": (3, *SIZE),
        "is_training": True,
        "color_jitter": None,
        "scale": (0.2, 1),
    }
    plain = timm.data.create_transform(**options, interpolation="bilinear")
    # Its own probability of each operation is 0.5: here every one is carried out, as in ours.
    strong = timm.data.create_transform(
        **options, interpolation="bilinear", auto_augment="rand-m9-n2-p1.0"
    )
    rand_augment = timm.data.rand_augment_transform("rand-m9-n2-p1.0", {})
    mixup = timm.data.Mixup(mixup_alpha=0.8, cutmix_alpha=1.0, num_classes=1000)
    picture = Image.open(io.BytesIO(content)).resize(SIZE)

    def load(transform):
        return transform(Image.open(io.BytesIO(content)).convert("RGB"))

    def batches(function):
        return lambda count: (function() for _ in range(count))

    def imagenet():
        images = torch.stack([load(strong) for _ in range(BATCH)])
        return mixup(images, torch.zeros(BATCH, dtype=torch.long))

    return {
        f"rand_augment/{TIMM}": batches(lambda: [rand_augment(picture) for _ in range(BATCH)]),
        f"load/{TIMM}": batches(lambda: torch.stack([load(plain) for _ in range(BATCH)])),
        f"imagenet/{TIMM}": batches(imagenet),
    }


def _timm(images):
    command = [sys.executable, "-m", "benchmarks.augmentation", "--timm", "--images", str(images)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        print(f"without timm: {result.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        return {}
    return json.loads(result.stdout.splitlines()[-1])


def _split(key):
    return key.split("/")


def _cell(milliseconds):
    return "" if milliseconds is None else f"{milliseconds:.2f}"


if __name__ == "__main__":
    main()
