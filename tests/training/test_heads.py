# SPDX-License-Identifier: Apache-2.0
import dataclasses

import numpy as np
import pytest
import torch

from pointdistill_ros.checkpoint import load_checkpoint, save_checkpoint
from pointdistill_ros.errors import ConfigError
from pointdistill_ros.labels import LabelSet
from training.batch import collate
from training.heads import MultiHead, logits_of
from training.losses.segmentation import segmentation_loss
from training.transforms import LabelledPoints

from ..tiny import tiny_config, tiny_meta, tiny_network

HEADS = {"semantic-kitti": 19, "nuscenes": 16}


def batch(head, n=200):
    rng = np.random.default_rng(0)
    xyz = rng.uniform(-5, 5, (n, 3)).astype(np.float32)
    points = LabelledPoints(xyz, np.zeros(n, np.float32), rng.integers(0, 16, n).astype(np.uint8))
    return collate([points], tiny_config(), 0.5, 10_000, None, head)


def network():
    torch.manual_seed(0)
    return MultiHead(tiny_config(), HEADS)


def test_every_head_has_its_own_classes():
    multi = network().eval()
    for name, classes in HEADS.items():
        data = batch(name)
        assert logits_of(multi, data).shape == (len(data.features), classes)


def test_a_plain_network_serves_the_common_head():
    plain, data = tiny_network(), batch("common")
    torch.testing.assert_close(logits_of(plain, data), plain(data.features, data.pyramid))


def test_a_batch_trains_the_backbone_and_its_own_head_only():
    multi, data = network(), batch("nuscenes")
    loss, _ = segmentation_loss(logits_of(multi, data), data.targets)
    loss.backward()
    with_gradient = {name for name, p in multi.named_parameters() if p.grad is not None}
    assert {n for n in with_gradient if n.startswith("heads.")} == {
        "heads.nuscenes.weight",
        "heads.nuscenes.bias",
    }
    assert "backbone.stem.conv.weight" in with_gradient


def test_an_exported_head_is_a_plain_network_that_can_be_saved(tmp_path):
    multi, data = network().eval(), batch("nuscenes")
    plain = multi.export("nuscenes")
    expected = logits_of(multi, data)
    torch.testing.assert_close(plain(data.features, data.pyramid), expected, rtol=0, atol=0)
    assert plain.config.num_classes == 16
    with torch.no_grad():
        plain.head.weight.zero_()
    assert multi.heads["nuscenes"].weight.abs().sum() > 0  # weights of its own
    meta = dataclasses.replace(tiny_meta(plain.config), label_set=LabelSet.named("nuscenes"))
    save_checkpoint(tmp_path / "w.safetensors", multi.export("nuscenes"), meta)
    again, _ = load_checkpoint(tmp_path / "w.safetensors")
    torch.testing.assert_close(
        again.eval()(data.features, data.pyramid), expected, rtol=1e-2, atol=1e-2
    )  # weights are stored in 16 bits


def test_unknown_and_missing_heads_are_refused():
    multi = network()
    with pytest.raises(ConfigError, match="no head 'waymo'; this network has semantic-kitti, nusc"):
        multi.export("waymo")
    with pytest.raises(ConfigError, match="no head 'waymo'"):
        logits_of(multi, batch("waymo"))
    with pytest.raises(ConfigError, match="at least one data set"):
        MultiHead(tiny_config(), {})
