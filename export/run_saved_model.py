"""SavedModel + samples -> probabilities, by TensorFlow alone: no Keras model, not this project.

Run as a script of its own; pickles come in on standard input and go out on standard output.
"""

import pickle
import statistics
import sys
import time

import tensorflow as tf


def main():
    path, encoded, pixels, images, runs = pickle.load(sys.stdin.buffer)
    signatures = tf.saved_model.load(path).signatures
    answer = {
        "encoded": signatures["serving_default"](image_bytes=tf.constant(encoded)),
        "pixels": signatures["serve_images"](images=tf.constant(pixels)),
    }
    probabilities = {kind: outputs["probabilities"].numpy() for kind, outputs in answer.items()}
    logits = signatures["serve_logits"](images=tf.constant(images))["logits"]
    probabilities["images"] = tf.nn.softmax(logits).numpy()
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        signatures["serving_default"](image_bytes=tf.constant(encoded[:1]))
        seconds.append(time.perf_counter() - start)
    pickle.dump((probabilities, 1000 * statistics.median(seconds)), sys.stdout.buffer)


main()
