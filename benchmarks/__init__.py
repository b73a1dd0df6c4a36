"""This project and its peers, side by side -> tables; imported by nothing else."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # no start-up chatter from TensorFlow
