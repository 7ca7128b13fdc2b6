# SPDX-License-Identifier: Apache-2.0
import doctest
from collections import OrderedDict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pointdistill_ros.errors import CheckpointError, ConfigError
from pointdistill_ros.labels import LabelSet
from training.camera import network as network_module
from training.camera.network import CameraNet, CameraNetConfig
from training.camera.teacher import Assembled, ImageAnswer, checked_answer
from training.camera.weights import load_camera_teacher, save_camera_teacher

KITTI, COMMON = LabelSet.named("semantic-kitti"), LabelSet.named("common7")
TINY = CameraNetConfig(7, (8, 8, 8, 8), (0, 1, 0), 8)


def tiny(seed=0):
    torch.manual_seed(seed)
    return CameraNet(TINY).eval()


@settings(max_examples=12)
@given(st.integers(1, 70), st.integers(1, 70))
def test_any_size_of_image_gives_whole_cells(height, width):
    answer = checked_answer(tiny(), torch.rand(2, 3, height, width))
    cells = (-(-height // 4), -(-width // 4))
    assert answer.features.shape == (2, 8, *cells)
    assert answer.logits.shape == (2, 7, *cells)


def test_a_cell_shows_its_own_pixels():
    """The gradient of a cell's answer is centred on the 4×4 pixels of that cell."""
    torch.manual_seed(0)
    net = CameraNet(CameraNetConfig(2, (8, 8, 8, 8), (0, 0, 0), 8)).double()
    net.lateral[1].weight.data.zero_(), net.lateral[2].weight.data.zero_()
    with torch.no_grad():  # even kernels: what is left is where they lie
        for module in net.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.data = (
                    module.weight.abs().mean((2, 3), keepdim=True).expand_as(module.weight)
                )
            if isinstance(module, nn.GroupNorm):
                module.forward = lambda x: x
    images = torch.rand(1, 3, 64, 96, dtype=torch.float64).requires_grad_()
    net(images).logits[0, 0, 8, 11].backward()
    weight = images.grad.abs().sum((0, 1))
    row = (weight.sum(1) * torch.arange(64)).sum() / weight.sum()
    column = (weight.sum(0) * torch.arange(96)).sum() / weight.sum()
    assert row.item() == pytest.approx(8 * 4 + 1.5)
    assert column.item() == pytest.approx(11 * 4 + 1.5)


def test_an_image_is_answered_alone_as_in_company():
    net, images = tiny(), torch.rand(3, 3, 33, 50)
    together = net(images).logits
    for k in range(3):
        torch.testing.assert_close(net(images[k : k + 1]).logits[0], together[k])


class Backbone(nn.Module):
    """As torchvision's: a mapping with ``out``."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 6, 3, stride=8, padding=1)

    def forward(self, x):
        return OrderedDict(low=x, out=self.convolution(x))


@pytest.mark.parametrize("mapping", [True, False])
def test_two_parts_of_another_network_are_a_teacher(mapping):
    backbone, classifier = Backbone(), nn.Conv2d(6, 19, 1)
    part = backbone if mapping else backbone.convolution
    teacher = Assembled(part, classifier, stride=8, feature_channels=6, num_classes=19)
    images = torch.rand(2, 3, 37, 61)
    answer = checked_answer(teacher, images)
    mean, deviation = torch.tensor((0.485, 0.456, 0.406)), torch.tensor((0.229, 0.224, 0.225))
    normal = (images - mean.view(3, 1, 1)) / deviation.view(3, 1, 1)
    torch.testing.assert_close(answer.features, backbone.convolution(normal))
    torch.testing.assert_close(answer.logits, classifier(answer.features))
    assert not answer.logits.requires_grad


def test_answers_of_other_shapes_than_promised_are_refused():
    class Wrong:
        stride, feature_channels, num_classes = 4, 5, 3

        def __call__(self, images):
            return ImageAnswer(torch.zeros(1, 5, 8, 8), torch.zeros(1, 4, 8, 8))

    with pytest.raises(ConfigError, match="logits"):
        checked_answer(Wrong(), torch.zeros(1, 3, 32, 32))
    with pytest.raises(ConfigError, match="features"):
        checked_answer(Wrong(), torch.zeros(1, 3, 32, 40))


def test_shapes_that_cannot_be_are_refused():
    for settings_ in ({"widths": (8, 8, 8, 9)}, {"num_classes": 1}, {"blocks": (0, -1, 0)}):
        with pytest.raises(ConfigError, match="camera network"):
            CameraNetConfig(**settings_)


def test_what_is_written_is_read(tmp_path):
    path, net = tmp_path / "camera.safetensors", tiny(3)
    save_camera_teacher(path, net, COMMON, {"streets": 3})
    read = load_camera_teacher(path, COMMON)
    images = torch.rand(1, 3, 40, 40)
    torch.testing.assert_close(read(images), net(images), rtol=0, atol=0)
    assert not read.training and not any(p.requires_grad for p in read.parameters())
    with pytest.raises(ConfigError, match="semantic-kitti"):
        load_camera_teacher(path, KITTI)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(CheckpointError, match=r"camera\.safetensors"):
        load_camera_teacher(path, COMMON)
    with pytest.raises(CheckpointError, match="nothing"):
        load_camera_teacher(tmp_path / "nothing", COMMON)


def test_other_weights_are_no_camera_teacher():
    with pytest.raises(CheckpointError, match="camera teacher"):
        load_camera_teacher("tests/data/ptv3_tiny.safetensors", KITTI)


def test_examples():
    result = doctest.testmod(network_module)
    assert result.attempted and not result.failed
