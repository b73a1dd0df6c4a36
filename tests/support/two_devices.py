"""A program: `python -m training ARGUMENTS`, with the CPU as two devices.

Devices have to be made before TensorFlow starts, so this is a process of its own.
"""

import sys


def make_two_devices():
    """Makes TensorFlow treat the CPU as two devices."""
    import tensorflow as tf

    (cpu,) = tf.config.list_physical_devices("CPU")
    device = tf.config.LogicalDeviceConfiguration()
    tf.config.set_logical_device_configuration(cpu, [device, device])


def main():
    make_two_devices()

    from training.__main__ import main

    main(sys.argv[1:])


if __name__ == "__main__":
    main()
