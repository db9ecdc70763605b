"""MobileNetV2 of keras.applications, with random weights: run --net examples/keras_mobilenet.py:build."""

import keras


def build() -> keras.Model:
    features = keras.applications.MobileNetV2(
        include_top=False, pooling="avg", weights=None, input_shape=(None, None, 3)
    )
    return keras.Sequential([features, keras.layers.Dense(1000)])  # its own top has images of one size
