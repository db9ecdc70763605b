"""examples/small_cnn.py in Keras: images and kernels are channels last, and so is what fc1 is given flat.

alexnet-bench verify --net torch=examples/small_cnn.py:SmallCnn --net tensorflow=examples/keras_small_cnn.py:build \
    --map examples/small_cnn.map
"""

import keras
from keras import layers


def build():
    return keras.Sequential(
        [
            keras.Input((224, 224, 3)),
            layers.ZeroPadding2D(3),  # SAME would pad 2 and 3 pixels, torch pads 3 and 3
            layers.Conv2D(8, 7, strides=4, name="conv1"),
            layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name="bn1"),  # torch's momentum 0.1: 1 - 0.9
            layers.ReLU(),
            layers.MaxPooling2D(),
            layers.Conv2D(16, 3, padding="same", activation="relu", name="conv2"),
            layers.MaxPooling2D(),
            layers.Flatten(),  # from (n, 14, 14, 16)
            layers.Dense(32, activation="relu", name="fc1"),
            layers.Dense(10, name="fc2"),
        ]
    )
