"""TensorFlow's loader: tf.data, which decodes and resizes with TensorFlow's own operations."""

import os
from typing import Any

import numpy as np
import tensorflow as tf

from impls.loader import Batch, Feed
from impls.preprocessing import WARP, Preprocessing


class Loader:
    """Implements impls.loader.Loader; its images are (n, h, w, c)."""

    def __init__(self, feed: Feed):
        self.feed = feed
        self.iterator: Any = None
        names, labels = feed.files
        paths = [os.fsencode(name) for name in names]
        workers, preprocessing = feed.workers, feed.preprocessing
        crop = accurate if feed.preset == "equal" else usual

        def prepared(path: tf.Tensor, label: tf.Tensor, row: tf.Tensor) -> tuple[tf.Tensor, ...]:
            return normalized(crop(tf.io.read_file(path), preprocessing), preprocessing), label, row

        with tf.device("/cpu:0"):
            pictures = tf.data.Dataset.from_tensor_slices((paths, labels, np.arange(len(paths))))
            pictures = pictures.shuffle(len(paths), seed=feed.seed).repeat()  # anew in each epoch
            parallel = {"num_parallel_calls": workers, "deterministic": True} if workers else {}
            pictures = pictures.map(prepared, **parallel)
            batches = pictures.batch(feed.batch, drop_remainder=True)
            self.batches = batches.prefetch(feed.prefetch) if workers else batches
        options = tf.data.Options()
        options.autotune.enabled = False
        options.threading.private_threadpool_size = max(1, workers)
        options.threading.max_intra_op_parallelism = 1
        self.batches = self.batches.with_options(options)

    def start(self) -> None:
        self.iterator = iter(self.batches)

    def next(self) -> Batch:
        return Batch(*next(self.iterator))

    def stop(self) -> None:
        self.iterator = None

    def arrays(self, batch: Batch) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        images, labels, rows = (each.numpy() for each in batch)
        return images, labels, rows


def accurate(data: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """The crop for evaluation, float32 from 0 to 255: resized with a filter, and no more than the crop."""

    def jpeg() -> tf.Tensor:  # its default is INTEGER_FAST, off by up to 8 of 255
        return tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE")

    def other() -> tf.Tensor:
        return tf.io.decode_image(data, channels=3, expand_animations=False)

    image = tf.cond(tf.io.is_jpeg(data), jpeg, other)
    shape = tf.shape(image)
    height, width = shape[0], shape[1]
    first, last = corners(height, width, preprocessing)
    side, size = preprocessing.side, preprocessing.size
    scale = tf.cast(side / (last - first), tf.float32)
    translation = tf.cast(-first * side / (last - first), tf.float32) - (side - size) // 2
    images = tf.cast(image, tf.float32)[None]
    return tf.raw_ops.ScaleAndTranslate(
        images=images, size=[size, size], scale=scale, translation=translation, kernel_type="triangle", antialias=True
    )[0]


def corners(height: tf.Tensor, width: tf.Tensor, preprocessing: Preprocessing) -> tuple[tf.Tensor, tf.Tensor]:
    """``Preprocessing.box`` as (top, left) and (bottom, right), float64."""
    lengths = tf.stack([height, width])
    if preprocessing.resize == WARP:
        return tf.zeros(2, tf.float64), tf.cast(lengths, tf.float64)
    resized = preprocessing.side * lengths // tf.minimum(height, width)
    first = tf.round(tf.cast(resized - preprocessing.side, tf.float64) / 2)  # to even, as Python's round
    scale = tf.cast(lengths, tf.float64) / tf.cast(resized, tf.float64)
    return first * scale, (first + preprocessing.side) * scale


def usual(data: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """The crop with every argument at its default, which resizes without a filter."""
    image = tf.io.decode_image(data, channels=3, expand_animations=False)
    shape = tf.shape(image)
    lengths = shape[:2]
    side, size = preprocessing.side, preprocessing.size
    resized = [side, side] if preprocessing.resize == WARP else side * lengths // tf.reduce_min(lengths)
    image = tf.image.resize(image, resized)
    return tf.ensure_shape(tf.image.resize_with_crop_or_pad(image, size, size), [size, size, 3])


def normalized(crop: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """``Preprocessing.normalized`` of float32."""
    ordered = crop if preprocessing.colors == "RGB" else tf.reverse(crop, [-1])
    return (ordered - tf.constant(preprocessing.subtract, tf.float32)) / tf.constant(preprocessing.divide, tf.float32)
