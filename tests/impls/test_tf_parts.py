"""Layers of a Keras model alone: which they are, and that they compute what they compute in the model."""

import numpy as np
import pytest
from nets import configured, how

from impls.outputs import Unfit
from impls.parts import awake, deepest

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def tf():
    configured("tensorflow")
    import tensorflow

    return tensorflow


@pytest.fixture(scope="module")
def parts(tf):
    from impls import tf_parts

    return tf_parts


@pytest.fixture(scope="module")
def recorded(tf, parts):
    """A model with a nested one and a layer called twice, the second that this process has made; its calls."""
    from impls.tf_model import Net

    layers = tf.keras.layers

    def build():
        inner = tf.keras.Sequential([tf.keras.Input((4,)), layers.Dense(4), layers.ReLU(), layers.Dense(4)], name="in")
        images = tf.keras.Input((8, 8, 3))
        x = layers.GlobalMaxPooling2D()(layers.Conv2D(4, 3, name="stem")(layers.Rescaling(2.0)(images)))
        twice = layers.Dense(4, name="twice")
        x = layers.Dropout(0)(layers.Flatten()(twice(twice(x))))
        return tf.keras.Model(images, layers.Add()([x, inner(x)]))

    build()
    tf.keras.utils.set_random_seed(0)
    draw = np.random.default_rng(0).standard_normal
    net = Net(build(), None, lambda batch: draw((batch, 8, 8, 3), np.float32), how("tensorflow", 3))
    net.load([])
    net.check()
    return net, {each.module.name: each for each in parts.record(net, deepest(awake(parts.modules(net), parts.idle)))}


def test_layers_of_nested_models_have_names_that_do_not_count_other_models(recorded):
    _, calls = recorded
    assert set(calls) == {
        *("rescaling", "stem", "global_max_pooling2d", "twice", "add"),
        *("in.dense", "in.re_lu", "in.dense_1"),
    }
    assert {name: call.calls for name, call in calls.items() if call.calls > 1} == {"twice": 2}
    assert [name for name, call in calls.items() if not call.gradient] == ["rescaling", "stem"]
    assert (list(calls["stem"].shape), calls["stem"].params) == ([6, 6, 4], 112)


def test_a_layer_computes_what_it_computes_in_the_model_and_its_gradients(tf, recorded, parts):
    _, calls = recorded
    for name in ("stem", "in.dense_1", "add"):
        call = calls[name]
        part = parts.part(call, how("tensorflow", 3))
        part.check()
        given = call.inputs[0]
        with tf.GradientTape() as tape:
            tape.watch(given)
            output = call.module.own(*given)
            loss = tf.nn.l2_loss(output)
        wrt = [*call.module.own.trainable_variables, *(tf.nest.flatten(given) if call.gradient else [])]
        expected = tape.gradient(loss, wrt)
        (first,), (second,) = part.forward(), part.forward()
        assert np.allclose(first, output)
        assert np.allclose(second, np.roll(output, 1, 0))
        part.forward()
        _, *found = part.forward_backward()
        assert len(found) == len(expected)
        trained = len(call.module.own.trainable_variables)
        turned = [np.roll(each, 1, 0) if number >= trained else each for number, each in enumerate(expected)]
        assert all(np.allclose(one, other, rtol=1e-4, atol=1e-5) for one, other in zip(found, turned, strict=True))


def test_a_function_of_tensorflow_has_no_layers(tf, parts):
    from impls.tf_model import Net

    net = Net(tf.function(lambda x: x), None, None, how("tensorflow"))
    with pytest.raises(Unfit, match="is a function without layers of Keras"):
        parts.modules(net)
