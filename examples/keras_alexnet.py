"""The tutorial net as a guest: a functional Keras model.

    alexnet-bench run --variant tutorial --net examples/keras_alexnet.py:build

The layers are those of tensorflow/models' tutorials/image/alexnet (2016) with the benchmark article's dense layers,
including a ReLU on the logits. Keras has no local response normalization, so a Lambda calls ``tf.nn.lrn``.
"""

import keras
import tensorflow as tf
from keras import layers

from impls.net import Trained


def model_of(size, batch, dtype):
    def conv(filters, kernel, name, strides=1):
        return layers.Conv2D(filters, kernel, strides, padding="same", activation="relu", name=name, dtype=dtype)

    def dense(units, name):
        return layers.Dense(units, activation="relu", name=name, dtype=dtype)

    def lrn(name):
        def normalized(x):
            return tf.nn.lrn(x, depth_radius=5, bias=1.0, alpha=0.001 / 9, beta=0.75)

        return layers.Lambda(normalized, name=name, dtype="float32")

    images = keras.Input((size, size, 3), batch_size=batch, dtype="float32")
    x = conv(64, 11, "conv1", strides=4)(images)
    x = lrn("lrn1")(x)
    x = layers.MaxPooling2D(3, 2, name="pool1", dtype=dtype)(x)
    x = conv(192, 5, "conv2")(x)
    x = lrn("lrn2")(x)
    x = layers.MaxPooling2D(3, 2, name="pool2", dtype=dtype)(x)
    x = conv(384, 3, "conv3")(x)
    x = conv(256, 3, "conv4")(x)
    x = conv(256, 3, "conv5")(x)
    x = layers.MaxPooling2D(3, 2, padding="same", name="pool5", dtype=dtype)(x)
    x = layers.Flatten(name="flatten", dtype=dtype)(x)
    x = dense(4096, "fc6")(x)
    x = dense(4096, "fc7")(x)
    x = dense(1000, "fc8")(x)
    return keras.Model(images, x, name="alexnet")


def build(variant, weights, how):
    """Build tutorial in graph or xla (``jit_compile``); fp32, tf32 or bf16 (Keras' mixed precision)."""
    if variant.name != "tutorial":
        raise ValueError(f"keras_alexnet: expected --variant tutorial, found {variant.name}")
    if how.mode not in ("graph", "xla"):
        raise ValueError(f"keras_alexnet has no mode {how.mode!r}: choose graph or xla")
    last = next(placed.input[0] for placed in variant.placed() if placed.layer.name == "pool5")
    if variant.input_size % 4 or not last % 2:  # SAME would pad conv1 or pool5 differently
        raise ValueError(f"keras_alexnet: SAME pads differently at {variant.input_size} px; leave --size at 224")
    return Net(variant, weights, how)


class Net:
    def __init__(self, variant, weights, how):
        self.on = "/CPU:0" if how.device == "cpu" else f"/GPU:{how.device.partition(':')[2] or 0}"
        dtype = "mixed_bfloat16" if how.precision == "bf16" else "float32"
        with tf.device(self.on):
            self.model = model_of(variant.input_size, how.batch, dtype)
            for layer, arrays in weights.items():
                self.model.get_layer(layer).set_weights([arrays["kernel"], arrays["bias"]])
        self.variables = [variable.value for variable in self.model.trainable_variables]
        images = tf.TensorSpec((how.batch, variant.input_size, variant.input_size, 3), tf.float32)
        compiled = how.mode == "xla"
        self.infer = tf.function(self.infer, input_signature=[images], jit_compile=compiled)
        self.step = tf.function(self.step, input_signature=[images], jit_compile=compiled)
        labels, number = tf.TensorSpec((how.batch,), tf.int32), tf.TensorSpec((), tf.float32)
        self.learn = tf.function(self.learn, input_signature=[images, labels, *[number] * 3], jit_compile=compiled)
        self.weights, self.labels, self.momenta = weights, [], []

    def infer(self, images):
        return self.model(images, training=False)

    def step(self, images):
        with tf.GradientTape() as tape:
            loss = tf.nn.l2_loss(tf.cast(self.model(images, training=True), tf.float32))
        return loss, *tape.gradient(loss, self.variables)

    def learn(self, images, labels, lr, momentum, decay):
        with tf.GradientTape() as tape:
            logits = tf.cast(self.model(images, training=True), tf.float32)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        gradients = tape.gradient(loss, self.variables)
        for variable, velocity, gradient in zip(self.variables, self.momenta, gradients, strict=True):
            tf.raw_ops.ResourceApplyKerasMomentum(
                var=variable.handle,
                accum=velocity.handle,
                lr=lr,
                grad=gradient + decay * variable,
                momentum=momentum,
            )
        return loss, self.momenta[0][0, 0, 0, 0]  # not the velocities, which would be copied

    def label(self, labels):
        with tf.device(self.on):
            self.labels = [tf.identity(tf.constant(each)) for each in labels]

    def restart(self, sgd):
        with tf.device(self.on):
            for layer, arrays in self.weights.items():
                self.model.get_layer(layer).set_weights([arrays["kernel"], arrays["bias"]])
            self.momenta = self.momenta or [tf.Variable(tf.zeros_like(value)) for value in self.variables]
            for velocity in self.momenta:
                velocity.assign(tf.zeros_like(velocity))
            self.rates = [tf.identity(tf.constant(value)) for value in (sgd.lr, sgd.momentum, sgd.decay)]

    def load(self, batches):
        with tf.device(self.on):
            self.batches = [tf.identity(tf.constant(batch)) for batch in batches]

    def next_batch(self):
        self.batches.reverse()
        self.labels.reverse()
        return self.batches[0]

    def forward(self):
        return self.infer(self.next_batch())

    def forward_backward(self):
        return self.step(self.next_batch())

    def train_step(self):
        return self.learn(self.next_batch(), self.labels[0], *self.rates)

    def wait(self, handles):
        if "GPU" in self.on:  # on the CPU a call returns when it is done
            tf.test.experimental.sync_devices()

    def fetch(self, handles):  # conv1's gradient, or velocity, is computed last
        return float((handles[1] if isinstance(handles, tuple) else handles).numpy().flat[0])

    def logits(self, handles):
        return tf.cast(handles, tf.float32).numpy()

    def gradients(self, handles):
        loss, *values = handles
        return float(loss), self.named(values)

    def trained(self, handles):
        return Trained(float(handles[0]), self.named(self.variables), self.named(self.momenta))

    def named(self, values):
        arrays = {}
        for variable, value in zip(self.model.trainable_variables, values, strict=True):
            layer, name = variable.path.split("/")[-2:]  # Keras' kernels have the canonical axes
            arrays.setdefault(layer, {})[name] = value.numpy()
        return arrays

    def device(self):
        return self.forward().device

    def traces(self):
        passes = {"forward": self.infer, "forward_backward": self.step, "train_step": self.learn}
        return {name: function.experimental_get_tracing_count() for name, function in passes.items()}

    def peak_memory(self):
        if "GPU" not in self.on:
            return None
        peak = tf.config.experimental.get_memory_info(self.on[1:])["peak"]
        tf.config.experimental.reset_memory_stats(self.on[1:])
        return peak
