# SPDX-License-Identifier: Apache-2.0
"""Exported networks compute what the torch form computes, in every shape, for every scan size.

`python -m tests.engine.test_onnx` writes the tables of docs/export.md anew.
"""

import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pointdistill_ros import LidarScan, Segmenter
from pointdistill_ros.config import load_config
from pointdistill_ros.engine.onnx.export import Parity, compare, contract_table, export_onnx
from pointdistill_ros.engine.onnx.inputs import input_specs, onnx_inputs
from pointdistill_ros.engine.onnx.network import build_model
from pointdistill_ros.engine.onnx.runtimes import OnnxRuntimeNetwork, OpenVinoNetwork
from pointdistill_ros.engine.voxelwise import torch_engine
from pointdistill_ros.errors import ConfigError, ScanError
from pointdistill_ros.model.ptv3 import PTv3, PTv3Config
from pointdistill_ros.model.pyramid import build_pyramid
from pointdistill_ros.resources import config_path
from tests.tiny import tiny_config, tiny_meta, tiny_network

RUNTIMES = {"onnxruntime": OnnxRuntimeNetwork, "openvino": OpenVinoNetwork}
TARGETS = ["cpu", "gpu"]
DOCS = Path(__file__).parents[2] / "docs" / "export.md"
SCAN = Path(__file__).parents[1] / "data" / "pandaset_003_00.npz"
PATCH = 24
# one voxel first and last: what a runtime remembers of a scan must not show in the next
SIZES = [1, PATCH - 1, PATCH, PATCH + 1, 300, 1]

SHAPES = {
    "plain": tiny_config(patch_sizes=(PATCH, PATCH)),
    "one stage": tiny_config(
        encoder_depths=(2,),
        encoder_channels=(12,),
        encoder_heads=(3,),
        decoder_depths=(),
        decoder_channels=(),
        decoder_heads=(),
        strides=(),
        patch_sizes=(PATCH,),
    ),
    "many": PTv3Config(
        num_classes=3,
        in_channels=5,
        encoder_depths=(1, 5, 1),
        encoder_channels=(8, 20, 24),
        encoder_heads=(2, 5, 1),
        decoder_depths=(2, 0),
        decoder_channels=(12, 18),
        decoder_heads=(4, 9),
        strides=(4, 2),
        patch_sizes=(PATCH, 7, 1),
        mlp_ratio=2,
        permutation=((3, 1, 0, 2), (2, 0, 3, 1), (1, 2, 3, 0)),
    ),
    "stale_on": tiny_config(patch_sizes=(PATCH, PATCH), xcpe="stale_on", decoder_depths=(2,)),
    "legacy": tiny_config(patch_sizes=(PATCH, PATCH), xcpe="legacy", decoder_depths=(2,)),
}


def network_of(config, seed=0):
    """Random everything: norms with statistics of their own, and scales of both signs."""
    torch.manual_seed(seed)
    network = PTv3(config).eval()
    for name, tensor in network.state_dict().items():
        if "running_var" in name:
            tensor.uniform_(0.5, 2)
        elif "norm" in name and tensor.is_floating_point():
            tensor.uniform_(-1, 1)
    return network


def cloud_of(n, config, seed=0):
    """n random voxels of a box that they fill by half or less, and random features."""
    rng = np.random.default_rng(seed)
    side = int(np.ceil((2 * n) ** (1 / 3)))
    chosen = rng.choice(side**3, n, replace=False)
    cells = np.stack(np.unravel_index(chosen, (side,) * 3), axis=1) + rng.integers(0, 9, 3)
    features = torch.from_numpy(rng.normal(size=(n, config.in_channels)).astype(np.float32))
    scan = torch.zeros(n, dtype=torch.int64)
    return features, build_pyramid(torch.from_numpy(cells), scan, config, depth=16)


@pytest.fixture(autouse=True)
def inference():
    with torch.inference_mode():
        yield


@pytest.mark.parametrize(
    ("shape", "runtime", "target"),
    [
        *[(shape, "onnxruntime", "cpu") for shape in SHAPES],
        *[("many", "onnxruntime", "gpu"), ("many", "openvino", "gpu")],
        *[("one stage", "openvino", "cpu"), ("legacy", "openvino", "cpu")],
    ],
)
def test_one_file_computes_the_network_for_scans_of_any_size(shape, runtime, target):
    config = SHAPES[shape]
    network = network_of(config)
    exported = RUNTIMES[runtime](network, threads=1, target=target)
    for n in SIZES:
        features, pyramid = cloud_of(n, config, seed=n)
        expected, logits = network(features, pyramid), exported(features, pyramid)
        assert logits.dtype == torch.float32 and logits.shape == (n, config.num_classes)
        assert (logits - expected).abs().max() <= 1e-4
        assert torch.equal(logits.argmax(1), expected.argmax(1))


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_student_labels_a_real_scan_as_in_torch(runtime):
    student = Segmenter.load("student", device="cpu", engine="torch")
    scan = LidarScan.read(SCAN)
    part = LidarScan(scan.xyz[::10], scan.intensity[::10])
    exported = RUNTIMES[runtime](student.network, threads=1)
    report = compare(exported, student.network, student.meta, part)
    assert report.voxels > 8_000
    assert report.agreement == 1.0 and report.difference <= 1e-4


def test_a_session_gives_the_same_bits_every_time():
    network = network_of(SHAPES["plain"])
    scan = cloud_of(300, network.config)
    for runtime in RUNTIMES.values():
        exported = runtime(network, threads=1, target="gpu")
        first = exported(*scan).clone()
        exported(*cloud_of(31, network.config))
        assert torch.equal(exported(*scan), first)


def nodes_of(graph):
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from nodes_of(attribute.g)


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("target", TARGETS)
def test_the_graph_is_standard(target, precision):
    model = build_model(network_of(SHAPES["many"]), target, precision)
    onnx.checker.check_model(model, full_check=True)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 17)]
    nodes = list(nodes_of(model.graph))
    assert {node.domain for node in nodes} == {""}
    assert not model.functions
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)
    if target == "gpu":
        assert {node.op_type for node in nodes}.isdisjoint(
            {"Scan", "Loop", "If", "ScatterND", "ScatterElements", "Split", "NonZero"}
        )


def test_the_graph_is_the_same_every_time():
    network = network_of(SHAPES["plain"])
    assert build_model(network).SerializeToString() == build_model(network).SerializeToString()


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("shape", SHAPES)
def test_inputs_keep_the_contract(shape, target):
    config = SHAPES[shape]
    specs = input_specs(config, target)
    declared = build_model(network_of(config), target).graph.input
    assert [value.name for value in declared] == [spec.name for spec in specs]
    for n in (1, PATCH, 200):
        inputs = onnx_inputs(*cloud_of(n, config), config, target)
        assert inputs.keys() == {spec.name for spec in specs}
        sizes = {}
        for spec in specs:
            array = inputs[spec.name]
            assert array.dtype == spec.dtype and array.flags.c_contiguous, spec.name
            assert len(array.shape) == len(spec.shape), spec.name
            for size, symbol in zip(array.shape, spec.shape, strict=True):
                assert sizes.setdefault(symbol, size) == size or symbol == size, spec.name
        assert sizes["n0"] == n and sizes["k0"] == min(n, config.patch_sizes[0])


@given(st.integers(1, 300), st.integers(1, 64), st.randoms())
def test_walks_are_patches_of_a_curve(n, patch_size, random):
    config = tiny_config(patch_sizes=(patch_size, 5))
    pyramid = cloud_of(n, config, seed=random.randrange(1000))[1]
    inputs = onnx_inputs(torch.zeros(n, 4), pyramid, config)
    order = pyramid.stages[0].orders[0].order.numpy()
    rows, place = inputs["walk0_0"], inputs["place0_0"]
    size = min(n, patch_size)
    assert rows.shape == (-(-n // size), size)
    assert (rows.ravel()[place] == np.arange(n)).all()
    assert (rows[-1] == order[n - size :]).all()
    full = n // size
    assert (rows[:full].ravel() == order[: full * size]).all()
    # positions of full patches are never taken from the last, overlapping one
    assert (place[order[: full * size]] == np.arange(full * size)).all()


def test_every_child_is_listed_and_padding_repeats_one():
    config = SHAPES["many"]
    pyramid = cloud_of(400, config)[1]
    inputs = onnx_inputs(torch.zeros(400, 5), pyramid, config)
    parent = pyramid.stages[0].parent.numpy()
    children = inputs["children1"]
    assert children.shape[1] == np.bincount(parent).max() > 8
    for row, listed in enumerate(children):
        assert set(listed) == set(np.flatnonzero(parent == row))


def test_tables_and_pairs_say_the_same():
    config = SHAPES["plain"]
    scan = cloud_of(300, config)
    pairs, tables = (onnx_inputs(*scan, config, target) for target in TARGETS)
    for name, size in (("_stem", 5), ("0", 3), ("1", 3)):
        table = tables[f"neighbours{name}"]
        n, last = len(table), size**3 - 1
        again = np.full_like(table, n)
        again[:, last // 2] = np.arange(n)
        offset = np.repeat(np.arange(last // 2), pairs[f"pair_counts{name}"])
        rows, mates = pairs[f"pair_rows{name}"][:, 0], pairs[f"pair_mates{name}"][:, 0]
        again[rows, offset] = mates
        again[mates, last - offset] = rows
        assert (again == table).all() and len(rows) > n


def test_a_batch_is_refused():
    config = SHAPES["plain"]
    cells = torch.tensor([[0, 0, 0], [0, 0, 0]])
    pyramid = build_pyramid(cells, torch.tensor([0, 1]), config)
    with pytest.raises(ScanError, match="one scan at a time, got 2"):
        onnx_inputs(torch.zeros(2, 4), pyramid, config)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("target", TARGETS)
def test_float16_is_half_the_file_and_nearly_the_same_function(tmp_path, target, runtime):
    network, meta = tiny_network(), tiny_meta()
    files = {}
    for precision in ("float32", "float16"):
        files[precision] = tmp_path / f"{precision}.onnx"
        export_onnx(files[precision], network, meta, "", target, precision)
    model = files["float16"].read_bytes()
    assert len(model) < 0.7 * files["float32"].stat().st_size
    exported = RUNTIMES[runtime](network, threads=1, target=target, model=model)
    features, pyramid = cloud_of(400, network.config)
    expected, logits = network(features, pyramid), exported(features, pyramid)
    assert logits.dtype == torch.float32
    assert 0 < (logits - expected).abs().max() < 0.05


def test_weights_beyond_float16_are_refused():
    network = tiny_network()
    network.encoder[0].blocks[0].fc1.weight[0, 0] = 1e5
    with pytest.raises(ConfigError, match=r"fc1.*does not fit into float16; export as float32"):
        build_model(network, "gpu", "float16")


def test_the_file_says_all_an_integrator_needs(tmp_path):
    network, meta = tiny_network(), tiny_meta()
    meta.training["licence"] = "CC0"
    export_onnx(tmp_path / "x.onnx", network, meta, "ab12", "gpu")
    facts = {p.key: p.value for p in onnx.load(tmp_path / "x.onnx").metadata_props}
    assert facts["model_id"] == "tiny" and facts["label_set"] == "semantic-kitti"
    assert json.loads(facts["classes"]) == list(meta.label_set.names)
    assert float(facts["grid_size"]) == meta.grid_size
    assert json.loads(facts["intensity"])["median"] == meta.intensity.median
    assert facts["xcpe"] == "stale_off" and facts["licence"] == "CC0"
    assert facts["weights_sha256"] == "ab12" and facts["target"] == "gpu"


@pytest.mark.parametrize("module", ["onnx", "onnxruntime", "openvino"])
def test_what_is_missing_says_how_to_install_it(monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    make = OpenVinoNetwork if module == "openvino" else OnnxRuntimeNetwork
    with pytest.raises(ConfigError, match=rf"^{module} .*pointdistill-ros\[export\]"):
        make(tiny_network())


def test_parity_finds_a_wrong_network():
    network, meta = tiny_network(), tiny_meta()
    scan = LidarScan(*(np.random.default_rng(0).random(s, np.float32) for s in ((99, 3), 99)))
    assert compare(network, network, meta, scan).accepts("float32")
    other = compare(tiny_network(1), network, meta, scan)
    assert not other.accepts("float32") and not other.accepts("float16")
    lost = compare(lambda f, p: network(f, p) * torch.nan, network, meta, scan)
    assert not lost.accepts("float16")
    assert not Parity(1000, 0.98, 1e-5, 1.0).accepts("float16")


def test_one_openmp_runtime_in_the_process():
    for runtime in RUNTIMES.values():
        runtime(tiny_network(), threads=1, target="gpu")(*cloud_of(30, tiny_config()))
    if not os.path.exists("/proc/self/maps"):  # noqa: PTH110
        pytest.skip("no process map here")
    maps = Path("/proc/self/maps").read_text()
    openmp = set(re.findall(r"\S*/lib(?:gomp|omp|iomp5)[^/\s]*\.so\S*", maps))
    assert len(openmp) == 1, openmp


# --- docs/export.md


def tables():
    student = load_config(PTv3Config, config_path("models/student.yaml"))
    whole = contract_table(student, "cpu")
    gpu = contract_table(student, "gpu").splitlines(keepends=True)
    known = whole.splitlines(keepends=True)[2:]
    return {"cpu": whole, "gpu": "".join(line for line in gpu if line not in known)}


def between(target):
    return rf"(<!-- inputs: {target} -->\n).*?(<!-- end -->)"


@pytest.mark.parametrize("target", TARGETS)
def test_the_docs_hold_the_contract(target):
    found = re.search(between(target), DOCS.read_text(), re.DOTALL)
    assert found[0] == f"{found[1]}{tables()[target]}{found[2]}", "see this file's first lines"


def test_the_example_of_the_docs_labels_a_scan(tmp_path, monkeypatch):
    example = re.search(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)[1]
    assert len(example.splitlines()) <= 30
    network, meta = tiny_network(), tiny_meta()
    export_onnx(tmp_path / "student.onnx", network, meta)
    rng = np.random.default_rng(0)
    xyz, intensity = rng.normal(0, 3, (3000, 3)).astype(np.float32), rng.random(3000, np.float32)
    np.column_stack([xyz, intensity]).astype(np.float32).tofile(tmp_path / "scan.bin")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(example, "docs/export.md", "exec"), names)
    expected = torch_engine(network, meta.grid_size, np.inf)(xyz, intensity).label
    assert (names["labels"] == expected).all()
    assert names["classes"][0] == meta.label_set.names[0]


if __name__ == "__main__":
    text = DOCS.read_text()
    for kind, table in tables().items():
        text = re.sub(between(kind), rf"\g<1>{table}\g<2>", text, flags=re.DOTALL)
    DOCS.write_text(text)
