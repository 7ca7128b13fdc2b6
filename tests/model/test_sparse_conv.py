# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torch.nn.functional import conv3d

from pointdistill_ros.errors import ConfigError
from pointdistill_ros.model.config import PTv3Config
from pointdistill_ros.model.neighbours import build_neighbours
from pointdistill_ros.model.pyramid import build_pyramid
from pointdistill_ros.model.sparse_conv import SubmanifoldConv, spconv_installed


def random_scene(n=300, extent=9, scans=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    cells = torch.randperm(scans * extent**3, generator=generator)[:n].sort().values
    scan, cells = cells // extent**3, cells % extent**3
    coords = torch.stack([cells // extent**2, cells // extent % extent, cells % extent], 1)
    return build_pyramid(coords, scan, PTv3Config()).stages[0]


@pytest.mark.parametrize("size", [3, 5])
def test_equals_dense_conv3d_with_gradients(size):
    torch.manual_seed(0)
    stage = random_scene()
    conv = SubmanifoldConv(4, 6, size, bias=True).double()
    x = torch.randn(len(stage), 4, dtype=torch.float64, requires_grad=True)
    out = conv(x, stage, build_neighbours(stage.coords, stage.scan, size))

    index = (stage.scan, slice(None), *stage.coords.unbind(1))
    dense = torch.zeros(2, 4, 9, 9, 9, dtype=torch.float64)
    dense[index] = x
    dense_out = conv3d(dense, conv.weight.permute(0, 4, 1, 2, 3), conv.bias, padding=size // 2)
    expected = dense_out[index]
    torch.testing.assert_close(out, expected)

    inputs = [x, conv.weight, conv.bias]
    cotangent = torch.randn_like(out)
    for ours, theirs in zip(
        torch.autograd.grad(out, inputs, cotangent),
        torch.autograd.grad(expected, inputs, cotangent),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


def test_a_lone_voxel_sees_only_itself():
    one = torch.zeros(1, dtype=torch.int64)
    stage = build_pyramid(torch.zeros(1, 3, dtype=torch.int64), one, PTv3Config()).stages[0]
    conv = SubmanifoldConv(3, 2, 3, bias=False)
    x = torch.randn(1, 3)
    torch.testing.assert_close(conv(x, stage, stage.neighbours), x @ conv.weight[:, 1, 1, 1].T)


def test_autocast_reaches_the_convolution():
    stage = random_scene(50)
    conv = SubmanifoldConv(4, 8, 3, bias=True)
    x = torch.randn(len(stage), 4)
    with torch.autocast("cpu", torch.bfloat16):
        out = conv(x, stage, stage.neighbours)
    torch.testing.assert_close(out.float(), conv(x, stage, stage.neighbours), atol=0.05, rtol=0.05)


@pytest.mark.skipif(spconv_installed(), reason="spconv is installed")
def test_asking_for_spconv_without_spconv_is_refused():
    with pytest.raises(ConfigError, match="not installed"):
        SubmanifoldConv(4, 4, 3, bias=True, backend="spconv")


@pytest.mark.parametrize("size", [3, 5])
def test_spconv_equals_torch(size):
    pytest.importorskip("spconv", reason="spconv is an extra")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    stage = random_scene()
    torch.manual_seed(0)
    plain = SubmanifoldConv(16, 32, size, bias=True, backend="torch")
    fast = SubmanifoldConv(16, 32, size, bias=True, backend="spconv").to(device)
    fast.load_state_dict(plain.state_dict())
    x = torch.randn(len(stage), 16)
    table = build_neighbours(stage.coords, stage.scan, size)
    with torch.no_grad():
        expected = plain(x, stage, table)
        found = fast(x.to(device), stage_on(stage, device), table).cpu()
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def stage_on(stage, device):
    from dataclasses import replace

    return replace(stage, coords=stage.coords.to(device), scan=stage.scan.to(device))
