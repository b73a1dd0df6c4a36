"""SavedModel + samples -> answers of every signature, by TensorFlow alone, without this project.

Run as a script of its own; pickles come in on standard input and go out on standard output.
"""

import pickle
import statistics
import sys
import time

import numpy as np
import tensorflow as tf


def main():
    path, encoded, decoded, images, runs = pickle.load(sys.stdin.buffer)
    signatures = tf.saved_model.load(path).signatures
    serve, serve_images = signatures["serving_default"], signatures["serve_images"]
    rows = [serve_images(images=tf.constant(image[np.newaxis])) for image in decoded]
    answers = [
        ("files", serve(image_bytes=tf.constant(encoded))["probabilities"].numpy()),
        ("files", np.concatenate([row["probabilities"] for row in rows])),
        ("logits", signatures["serve_logits"](images=tf.constant(images))["logits"].numpy()),
    ]
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        serve(image_bytes=tf.constant(encoded[:1]))
        seconds.append(time.perf_counter() - start)
    pickle.dump((answers, 1000 * statistics.median(seconds)), sys.stdout.buffer)


if __name__ == "__main__":
    main()
