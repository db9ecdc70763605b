"""Builds nets of TensorFlow on the second of two devices of a CPU, and prints where each operation is placed.

One JSON line per net and pass: [net, precision, preset, pass, {type of operation: its devices, "" for no own}].
"""

import json

import tensorflow as tf

from impls import tf_alexnet
from impls.net import Build, Settings, Sgd, resident_batches, resident_labels
from impls.variants import VARIANTS
from impls.weights import initial

SECOND = "/CPU:1"


class Net(tf_alexnet.Net):
    def place(self, how: Build) -> str:
        return SECOND


def main() -> None:
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    tf_alexnet.configure(Settings("cpu", 1, "fp32"))
    for name, variant in VARIANTS.items():
        small = variant.resized(variant.least_size)
        for precision, preset, lrn in (("fp32", "equal", "native"), ("bf16", "default", "fast")):
            how = Build(2, "cpu", precision, "graph", "nhwc", preset=preset, lrn=lrn)
            net = Net(small, initial(small), how)
            net.load(resident_batches(how, small.input_size))
            net.label(resident_labels(how, small.classes))
            net.restart(Sgd(0.1))
            calls = {
                "forward": (net.infer, [net.batches[0]]),
                "forward_backward": (net.step, [net.batches[0]]),
                "train_step": (net.train, [net.batches[0], net.labels[0], *net.rates]),
            }
            for pass_, (function, arguments) in calls.items():
                placed: dict[str, list[str]] = {}
                for operation in function.get_concrete_function(*arguments).graph.get_operations():
                    devices = placed.setdefault(operation.type, [])
                    if operation.device not in devices:
                        devices.append(operation.device)
                print(json.dumps([name, precision, preset, pass_, placed]), flush=True)


if __name__ == "__main__":
    main()
