"""Fixtures of the tests of weights files."""

import pytest
from caffe_pickles import NET

from impls.weights import WeightsError, load


@pytest.fixture
def weights_of(tmp_path):
    """What a file of these bytes gives, all the way to checked weights."""

    def weights_of(data, variant=NET):
        path = tmp_path / "net.npy"
        path.write_bytes(data)
        return load(path, variant)

    return weights_of


@pytest.fixture
def refusal(weights_of):
    """Why a file of these bytes is not read; always one line that can be printed, and short."""

    def refusal(data):
        with pytest.raises(WeightsError) as error:
            weights_of(data)
        text = str(error.value)
        assert text.startswith("net.npy: ")
        assert text.isprintable()
        assert len(text) < 400
        return text.removeprefix("net.npy: ")

    return refusal


@pytest.fixture
def safetensors():
    """An extra, and not everybody's."""
    pytest.importorskip("safetensors")
