# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pointdistill_ros.config import load_config
from pointdistill_ros.errors import ConfigError
from pointdistill_ros.model.ptv3 import PTv3, PTv3Config
from pointdistill_ros.model.pyramid import build_pyramid
from pointdistill_ros.resources import config_path
from tests.model import reference

EXACT_COUNTS = {
    ("teacher", 16): 46_159_312,
    ("teacher", 19): 46_159_507,
    ("teacher", 22): 46_159_702,
    ("student", 16): 2_777_344,
    ("student", 19): 2_777_539,
    ("student", 22): 2_777_734,
}
# batch-minimum patch sizes, which the public code falls back to without flash attention
PADDED_LIKE_PUBLIC = {"c": (90, 84)}


@pytest.mark.parametrize(("name", "classes"), EXACT_COUNTS)
def test_parameter_counts_are_exact(name, classes):
    config = replace(
        load_config(PTv3Config, config_path(f"models/{name}.yaml")), num_classes=classes
    )
    with torch.device("meta"):
        network = PTv3(config)
    assert sum(p.numel() for p in network.parameters()) == EXACT_COUNTS[name, classes]
    buffers = sum(b.numel() for b in network.buffers())
    assert buffers == {"teacher": 4045, "student": 2061}[name]


RECORDED = [
    ("a", "stale_off", "a/stale_off/logits"),
    ("a", "stale_on", "a/stale_on/logits"),
    ("a", "legacy", "a/stale_on/logits"),  # one block per stage: equal bit for bit
    ("b", "stale_off", "b/stale_off/logits"),
    ("b", "stale_on", "b/stale_on/logits"),
    ("b", "legacy", "b/legacy/logits"),
    *[
        ("c", mode, f"c/{mode}/{kind}")
        for mode in ("stale_off", "stale_on")
        for kind in ("logits", "logits_varlen")
    ],
    ("c", "legacy", "c/stale_on/logits_varlen"),
]


@pytest.mark.parametrize(("case", "mode", "key"), RECORDED)
def test_logits_equal_the_public_code(case, mode, key):
    expected = reference.tensors()[key]
    config = reference.case_config(case, xcpe=mode)
    if key.endswith("logits"):
        sizes = PADDED_LIKE_PUBLIC.get(case, config.patch_sizes)
        config = replace(config, patch_sizes=sizes)
    features, coords, scan = reference.case_input(case)
    network = reference.case_network(case, config)
    with torch.no_grad():
        logits = network(features, build_pyramid(coords, scan, config))
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)


def test_modes_differ_where_they_should():
    features, coords, scan = reference.case_input("b")
    logits = []
    for mode in ("stale_off", "stale_on", "legacy"):
        config = reference.case_config("b", xcpe=mode)
        with torch.no_grad():
            network = reference.case_network("b", config)
            logits.append(network(features, build_pyramid(coords, scan, config)))
    assert (logits[0] - logits[1]).abs().max() > 0.01
    assert (logits[1] - logits[2]).abs().max() > 0.01


@pytest.mark.parametrize(("key", "stage"), [("a/mid/enc.enc1/feat", 1), ("b/mid/enc.enc2/feat", 2)])
def test_encoder_outputs_equal_the_public_code(key, stage):
    case = key[0]
    config = reference.case_config(case)
    features, coords, scan = reference.case_input(case)
    network = reference.case_network(case, config)
    with torch.no_grad():
        outputs = network.encode(features, build_pyramid(coords, scan, config))
        before = outputs[stage].clone()
        network.decode(outputs, build_pyramid(coords, scan, config))
    torch.testing.assert_close(outputs[stage], reference.tensors()[key], rtol=0, atol=1e-5)
    assert torch.equal(outputs[stage], before)  # the decoder leaves it alone


def tiny(**changes):
    return PTv3Config(
        num_classes=5,
        encoder_depths=(1, 2),
        encoder_channels=(16, 32),
        encoder_heads=(1, 2),
        decoder_depths=(1,),
        decoder_channels=(16,),
        decoder_heads=(1,),
        strides=(2,),
        patch_sizes=(16, 16),
        **changes,
    )


def random_scan(n, seed):
    generator = torch.Generator().manual_seed(seed)
    cells = torch.randperm(20**3, generator=generator)[:n]
    coords = torch.stack([cells // 400, cells // 20 % 20, cells % 20], 1)
    return torch.randn(n, 4, generator=generator), coords


def run(network, features, coords, scan, depth=6):
    with torch.no_grad():
        return network(features, build_pyramid(coords, scan, network.config, depth=depth))


@pytest.mark.parametrize("n", [1, 15, 16, 17, 33, 200])
def test_a_scan_does_not_depend_on_its_batch_mates(n):
    torch.manual_seed(0)
    network = PTv3(tiny()).eval()
    one, other = random_scan(n, 1), random_scan(70, 2)
    alone = run(network, *one, torch.zeros(n, dtype=torch.int64))
    scan = torch.cat([torch.zeros(70), torch.ones(n)]).long()
    together = run(network, torch.cat([other[0], one[0]]), torch.cat([other[1], one[1]]), scan)
    torch.testing.assert_close(together[70:], alone, atol=1e-5, rtol=1e-5)


def test_row_order_does_not_matter():
    torch.manual_seed(0)
    network = PTv3(tiny()).eval()
    features, coords = random_scan(150, 3)
    zeros = torch.zeros(150, dtype=torch.int64)
    shuffle = torch.randperm(150)
    torch.testing.assert_close(
        run(network, features[shuffle], coords[shuffle], zeros),
        run(network, features, coords, zeros)[shuffle],
        atol=1e-5,
        rtol=1e-5,
    )


def test_every_parameter_learns():
    torch.manual_seed(0)
    network = PTv3(tiny(drop_path=0.1)).train()
    features, coords = random_scan(100, 4)
    pyramid = build_pyramid(coords, torch.zeros(100, dtype=torch.int64), network.config)
    network(features, pyramid).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


def test_gradients_do_not_depend_on_what_memory_held_before():
    """Pooling must not read the buffer it fills: a stale maximum would share the gradient."""
    torch.manual_seed(0)
    network = PTv3(tiny()).train()
    features, coords = random_scan(100, 4)
    pyramid = build_pyramid(coords, torch.zeros(100, dtype=torch.int64), network.config)
    weights = list(network.parameters())
    first, *others = [
        torch.autograd.grad(network(features, pyramid).square().sum(), weights) for _ in range(20)
    ]
    assert all(torch.equal(a, b) for other in others for a, b in zip(first, other, strict=True))


def test_drop_path_rates_rise_over_the_blocks():
    config = load_config(PTv3Config, config_path("models/teacher.yaml"))
    with torch.device("meta"):
        network = PTv3(config)
    encoder = [block.drop_rate for level in network.encoder for block in level.blocks]
    np.testing.assert_allclose(encoder, np.linspace(0, 0.3, 14), atol=1e-6)
    decoder = [block.drop_rate for level in network.decoder for block in reversed(level.blocks)]
    np.testing.assert_allclose(decoder, np.linspace(0, 0.3, 8), atol=1e-6)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("gird_size: 1", "gird_size"),
        ("strides: [2, 2, 2, 3]", "powers of two"),
        ("encoder_heads: [1, 1, 2, 4]", "encoder_heads needs 5"),
        ("encoder_heads: [3, 1, 2, 4, 8]", "multiple of heads"),
        ("curves: [peano]", "curves"),
        ("drop_path: 1.0", "drop_path"),
        ("permutation: [[0, 1, 2, 2], [0,1,2,3], [0,1,2,3], [0,1,2,3], [0,1,2,3]]", "reorder"),
    ],
)
def test_wrong_shapes_are_refused_by_name(tmp_path: Path, text, complaint):
    file = tmp_path / "model.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=complaint) as error:
        load_config(PTv3Config, file)
    assert str(file) in str(error.value)
