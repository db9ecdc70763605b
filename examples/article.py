"""The article's program as a guest: TensorFlow 1's Graph and Session through tf.compat.v1.

    alexnet-bench run --variant tutorial --net examples/article.py:build

Source: a benchmark article on classic CNNs (AlexNet) after tensorflow/models' tutorials/image/alexnet (2016). As in the
article, images are Variables in the session, the passes are ``session.run`` of the last ReLU and of the gradients of
``l2_loss``, convolutions pad SAME, pools VALID except for the last, and the logits go through a ReLU.

Four things differ from the article, so that the net can be compared:

- Weights and images are fed once; the article drew its own.
- The loss is computed with its gradients, which do not need its value.
- Two Variables of images each have a copy of the graph on the same weights; the passes alternate between them.
- Nothing is fetched inside the clock. ``session.run(gradients)`` returns NumPy arrays: free on a CPU, a copy of 300 MB
  on a GPU. ``tf.group`` does not help, since Grappler drops operations with only control edges left (2 dense layers
  at batch 32 on 2 cores: 0.4 ms instead of 100). So each value is assigned to a Variable, which takes over its buffer
  (100.1 ms, fetched 99.6), and the values that prove a pass are the timed ones.
"""

import tensorflow as tf

v1 = tf.compat.v1


def build(variant, weights, how):
    """Build tutorial in graph; fp32 or tf32. The result of a pass is kept until the same pass runs again."""
    if variant.name != "tutorial":
        raise ValueError(f"article: expected --variant tutorial, found {variant.name}")
    if how.mode != "graph":
        raise ValueError(f"article has no mode {how.mode!r}: choose graph")
    if how.precision == "bf16":
        raise ValueError("article: expected precision fp32 or tf32, found bf16")
    last = next(placed.input[0] for placed in variant.placed() if placed.layer.name == "pool5")
    if variant.input_size % 4 or not last % 2:  # SAME would pad conv1 or pool5 differently
        raise ValueError(f"article: SAME pads differently at {variant.input_size} px; leave --size at 224")
    return Net(variant.input_size, weights, how)


def inference(images, weights):
    """The logits (batch, 1000) of images (batch, h, w, 3)."""

    def conv(x, layer, stride=1):
        kernel, bias = weights[layer]["kernel"], weights[layer]["bias"]
        x = tf.nn.conv2d(x, kernel, [1, stride, stride, 1], padding="SAME")
        return tf.nn.relu(tf.nn.bias_add(x, bias), name=layer)

    def lrn(x):  # default depth_radius: 5
        return tf.nn.lrn(x, bias=1.0, alpha=0.001 / 9, beta=0.75)

    def pool(x, padding):
        return tf.nn.max_pool2d(x, ksize=[1, 3, 3, 1], strides=[1, 2, 2, 1], padding=padding)

    def dense(x, layer):
        return tf.nn.relu(tf.matmul(x, weights[layer]["kernel"]) + weights[layer]["bias"], name=layer)

    x = pool(lrn(conv(images, "conv1", stride=4)), "VALID")
    x = pool(lrn(conv(x, "conv2")), "VALID")
    x = conv(conv(conv(x, "conv3"), "conv4"), "conv5")
    x = pool(x, "SAME")
    x = tf.reshape(x, [x.shape[0], -1])
    return dense(dense(dense(x, "fc6"), "fc7"), "fc8")


class Net:
    def __init__(self, size, weights, how):
        on = "/CPU:0" if how.device == "cpu" else f"/GPU:{how.device.partition(':')[2] or 0}"
        with tf.Graph().as_default(), tf.device(on):
            self.batches = [variable((how.batch, size, size, 3)) for _ in range(2)]
            self.weights = {
                layer: {name: variable(array.shape, trainable=True) for name, array in arrays.items()}
                for layer, arrays in weights.items()
            }
            self.names = [(layer, name) for layer, arrays in weights.items() for name in arrays]
            parameters = [self.weights[layer][name] for layer, name in self.names]
            self.output = self.loss = None
            forward, forward_backward = [], []
            for images in self.batches:
                logits = inference(images, self.weights)
                loss = tf.nn.l2_loss(logits)
                gradients = tf.gradients(loss, parameters)
                if self.output is None:
                    self.output = variable(logits.shape)
                    self.values = [variable(value.shape) for value in (loss, *gradients)]
                forward.append(self.output.assign(logits).op)
                kept = zip(self.values, (loss, *gradients), strict=True)
                forward_backward.append(tf.group(*(place.assign(value) for place, value in kept)))
            self.passes = forward, forward_backward
            everything = [*self.batches, *parameters]
            self.fed = {place.ref(): v1.placeholder(tf.float32, place.shape) for place in everything}
            self.assign = {place.ref(): place.assign(self.fed[place.ref()]).op for place in everything}
            self.session = v1.Session(config=config())
        for layer, arrays in weights.items():
            for name, array in arrays.items():
                self.feed(self.weights[layer][name], array)

    def feed(self, variable, array):
        self.session.run(self.assign[variable.ref()], {self.fed[variable.ref()]: array})

    def load(self, batches):
        for images, array in zip(self.batches, batches, strict=True):
            self.feed(images, array)

    def forward(self):
        forward, _ = self.passes
        forward.reverse()
        self.session.run(forward[0])
        return self.output

    def forward_backward(self):
        _, forward_backward = self.passes
        forward_backward.reverse()
        self.session.run(forward_backward[0])
        return self.values

    def wait(self, handles):
        """``session.run`` returns when the device is done."""

    def fetch(self, handles):  # conv1's gradient is computed last
        return float(self.session.run(handles[1] if isinstance(handles, list) else handles).flat[0])

    def logits(self, handles):
        return self.session.run(handles)

    def gradients(self, handles):
        loss, *values = self.session.run(handles)
        gradients = {}
        for (layer, name), value in zip(self.names, values, strict=True):
            gradients.setdefault(layer, {})[name] = value
        return float(loss), gradients

    def device(self):
        return self.output.device


def variable(shape, trainable=False):
    """A Variable to be fed or assigned; its initial value is never computed."""
    return v1.Variable(tf.zeros(shape), trainable=trainable, use_resource=True)


def config():
    """The session's own thread pools, with TensorFlow 2's settings."""
    threading = tf.config.threading
    return v1.ConfigProto(
        intra_op_parallelism_threads=threading.get_intra_op_parallelism_threads() or 0,
        inter_op_parallelism_threads=threading.get_inter_op_parallelism_threads() or 0,
        gpu_options=v1.GPUOptions(allow_growth=True),
    )
