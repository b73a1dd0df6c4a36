"""Recipe -> trained model: tf.data pipelines and `model.fit`."""
