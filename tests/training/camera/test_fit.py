# SPDX-License-Identifier: Apache-2.0
import argparse
import json
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pointdistill_ros.datasets.camera_images import frame_of
from pointdistill_ros.datasets.cameras import Camera
from pointdistill_ros.datasets.simulated import SimulatedStreets
from pointdistill_ros.errors import ConfigError, InputError
from pointdistill_ros.labels import LabelSet
from training import train_camera_teacher
from training.camera.fit import FitConfig, class_weights, fit, measure, pixel_loss
from training.camera.network import CameraNet, CameraNetConfig
from training.camera.rendered import RenderedSamples, StreetImages
from training.camera.samples import CameraSample, crop, projected_labels
from training.camera.weights import load_camera_teacher
from training.checkpoints import Checkpoints
from training.opening import CachedScans

TINY = CameraNetConfig(3, (8, 8, 8, 8), (0, 0, 0), 8)
FIT = FitConfig(steps=4, batch=2, width=32, save_every=2, learning_rate=0.02)


def colour_samples(count=4, width=40, height=16):
    """Three colours, three classes, and pixels that nobody knows."""
    rng = np.random.default_rng(0)
    colours = np.uint8([(220, 30, 30), (30, 220, 30), (30, 30, 220)])
    found = []
    for _ in range(count):
        classes = np.repeat(np.repeat(rng.integers(0, 3, (height // 8, width // 8)), 8, 0), 8, 1)
        labels = np.where(rng.random(classes.shape) < 0.5, 255, classes).astype(np.uint8)
        found.append(CameraSample(colours[classes], labels))
    return found


def tiny(seed=0):
    torch.manual_seed(seed)
    return CameraNet(TINY)


@settings(max_examples=15)
@given(st.integers(0, 50))
def test_pixel_loss_is_that_of_the_pixels_cells(seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 5, 3, 4, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 7, (2, 11, 15), generator=generator).to(torch.uint8)
    labels[labels > 4] = 255
    weights = torch.rand(5, generator=generator, dtype=torch.float64) + 0.1
    total = norm = 0.0
    for b, i, j in (labels != 255).nonzero().tolist():
        c = int(labels[b, i, j])
        total -= float(weights[c] * logits[b, :, i // 4, j // 4].float().log_softmax(0)[c])
        norm += float(weights[c])
    assert pixel_loss(logits, labels, 4, weights).item() == pytest.approx(total / norm, rel=1e-5)


def test_pixels_without_a_class_teach_nothing():
    logits = torch.randn(1, 3, 4, 8, requires_grad=True)
    loss = pixel_loss(logits, torch.full((1, 16, 32), 255, dtype=torch.uint8), 4)
    loss.backward()
    assert loss.item() == 0 and not logits.grad.any()


def test_colours_are_learned():
    net, samples = tiny(), colour_samples()
    before = measure(net, samples).accuracy()
    losses = []
    config = FitConfig(steps=60, batch=2, width=32, learning_rate=0.02)
    fit(net, [(samples, 1.0)], config, report=lambda _, loss: losses.append(loss))
    assert np.mean(losses[-5:]) < 0.4 * np.mean(losses[:3]), losses
    assert measure(net, samples).accuracy() > max(0.9, before + 0.2)
    assert not net.training


def test_training_goes_on_where_it_stopped(tmp_path):
    sources = [(colour_samples(), 0.3), (colour_samples(2), 0.7)]
    whole, parts = tiny(), tiny()
    fit(whole, sources, FIT)
    checkpoints = Checkpoints(tmp_path)

    class KilledError(Exception):
        pass

    def kill(step, loss):
        if step == 3:
            raise KilledError

    with pytest.raises(KilledError):
        fit(parts, sources, FIT, checkpoints, kill)
    again, steps = tiny(9), []
    fit(again, sources, FIT, checkpoints, lambda step, _: steps.append(step))
    assert steps == [3, 4]
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_rare_classes_weigh_more_within_bounds():
    labels = np.full((30, 40), 0, np.uint8)
    labels[0, :10], labels[1, 0] = 1, 255
    weights = class_weights([([CameraSample(labels[..., None].repeat(3, 2), labels)], 1.0)], 3, 0)
    assert weights[1] > weights[0] and weights.max() <= 5
    assert weights[2] == 1
    shares = np.array([1189, 10]) / 1199
    assert weights[1] == pytest.approx(min(5, shares[1] ** -0.5 / (shares**0.5).sum()), rel=1e-5)


@given(st.integers(0, 60), st.integers(8, 60))
def test_cropping_keeps_pixels_and_classes_in_register(seed, width):
    labels = np.random.default_rng(seed).integers(0, 2, (6, 30)).astype(np.uint8)
    pixels = (60 + 120 * labels)[..., None].repeat(3, 2).astype(np.uint8)
    cut = crop(CameraSample(pixels, labels), width, np.random.default_rng(seed))
    assert cut.labels.shape == (6, width) and cut.pixels.shape == (6, width, 3)
    known = cut.labels != 255
    assert known.sum() == 6 * min(width, 30)
    bright = cut.pixels.astype(float).mean(2)
    if (cut.labels[known] == 1).any() and (cut.labels[known] == 0).any():
        assert bright[cut.labels == 1].min() > bright[cut.labels == 0].max()


def test_the_nearest_point_gives_a_pixel_its_class():
    axes = np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
    camera = Camera.from_intrinsics([[10, 0, 5], [0, 10, 3], [0, 0, 1]], axes, 12, 8)
    xyz = np.float32([[10.0, 0, 0], [9.5, 0, 0], [9.8, 0, 0], [40, 12, 0], [5, -2.5, 0]])
    found = projected_labels(xyz, np.uint8([1, 2, 3, 4, 5]), camera)
    assert found[3, 5] == 2 and found[3, 2] == 4 and found[3, 10] == 5
    assert (found != 255).sum() == 3


class Street:
    """Stands for the simulator, which takes seconds."""

    def __init__(self, seed, turns, built):
        built.append((seed, turns))
        self.seed = seed

    def picture(self, turn, camera):
        shape = (camera.height, camera.width)
        value = np.full(shape, self.seed + turn, np.uint8)
        return argparse.Namespace(pixels=value[..., None].repeat(3, 2), labels=value)


def test_pictures_are_rendered_once_and_kept(tmp_path, monkeypatch):
    built = []
    monkeypatch.setattr("training.camera.rendered.FilmedDrive", partial(Street, built=built))
    samples = RenderedSamples(tmp_path, [4, 9], frames=2, stride=10)
    assert [int(samples[i].labels[0, 0]) for i in range(4)] == [4, 14, 9, 19]
    assert built == [(4, 11), (9, 11)]
    again = RenderedSamples(tmp_path, [4, 9], frames=2, stride=10)
    assert int(again[3].labels[0, 0]) == 19 and len(built) == 2
    longer = RenderedSamples(tmp_path, [4], frames=3, stride=10)  # another street
    assert longer.folder != samples.folder
    kept = sorted(samples.folder.glob("*.npz"))
    assert len(kept) == 4
    kept[0].write_bytes(b"no picture")
    with pytest.raises(InputError, match=kept[0].name):
        again[0]
    with pytest.raises(IndexError):
        again[4]


def test_pictures_belong_to_the_scans_of_the_same_streets(tmp_path, monkeypatch):
    built = []
    monkeypatch.setattr("training.camera.rendered.FilmedDrive", partial(Street, built=built))
    streets = SimulatedStreets(None, [4, 9], 2, 10, ("hdl64e", "hdl32e"))
    images = StreetImages(streets, tmp_path)
    keys = [frame_of(CachedScans(streets, 0), i) for i in range(4)]
    assert list(images) == keys
    assert keys[:3] == [("hdl64e_000004", 0), ("hdl64e_000004", 10), ("hdl32e_000009", 0)]
    assert [int(images[key].pixels[0, 0, 0]) for key in keys] == [4, 14, 9, 19]
    assert built == [(4, 11), (9, 11)]
    assert ("hdl64e_000004", 20) not in images
    with pytest.raises(KeyError):
        images["hdl64e_000004", 20]


def write_recordings(root):
    """Scans and images in the packed layout: what lies left is car, what lies right is road."""
    files = []
    axes = "0 -1 0 0 0 0 -1 0 1 0 0 0"
    (root / "semantickitti_images").mkdir()
    rng = np.random.default_rng(0)
    for sequence, split in (("00", "train"), ("07", "val"), ("10", "val")):
        xyz = rng.uniform((4, -10, -2), (20, 10, 2), (900, 3))
        labels = np.where(xyz[:, 1] > 0, 0, 8).astype(np.uint8)
        for frame in (0, 1):
            path = f"{sequence}_{frame:06d}"
            np.savez(
                root / f"{path}.npz",
                xyz=np.round(xyz * 256).astype(np.int16),
                q=256,
                inten=np.zeros(900, np.uint8),
                label19=labels,
            )
            entry = {"path": f"{path}.npz", "dataset": "SemanticKITTI", "split": split}
            files.append(entry | {"sequence": sequence, "frame": frame})
            pixels = np.full((20, 48, 3), 40, np.uint8)
            pixels[:, :24] = 200
            Image.fromarray(pixels).save(root / "semantickitti_images" / f"{path}.jpg")
        calibration = root / "semantickitti_images" / f"{sequence}_calib.txt"
        calibration.write_text(f"P2: 60 0 48 0 0 60 20 0 0 0 1 0\nTr: {axes}\n")
    (root / "manifest.json").write_text(json.dumps({"files": files}))


def arguments(root, *extra):
    run = ["--run", str(root / "run"), "--cache", str(root / "pictures")]
    small = ["--steps", "6", "--batch", "1", "--width", "48", "--save-every", "3"]
    return train_camera_teacher._parser().parse_args([*run, *small, *extra])


def test_a_teacher_is_trained_from_recordings(tmp_path):
    write_recordings(tmp_path)
    figures = train_camera_teacher.run(arguments(tmp_path, "--data", str(tmp_path)))
    assert set(figures["images"]["iou"]) == {"car", "road"}
    assert figures["images"]["pixels"] > 200
    written = json.loads((tmp_path / "run/camera.json").read_text())
    assert written["figures"] == figures and written["real_images"] == 2
    assert "CC BY-NC-SA" in written["licence"]
    kitti = LabelSet.named("semantic-kitti")
    net = load_camera_teacher(tmp_path / "run/camera.safetensors", kitti)
    assert net.num_classes == 19
    with pytest.raises(InputError, match="--resume"):
        train_camera_teacher.run(arguments(tmp_path, "--data", str(tmp_path)))
    resumed = train_camera_teacher.run(arguments(tmp_path, "--data", str(tmp_path), "--resume"))
    assert resumed == figures


def test_mistakes_are_named(tmp_path):
    with pytest.raises(ConfigError, match="--streets"):
        train_camera_teacher.run(arguments(tmp_path))
    write_recordings(tmp_path)
    with pytest.raises(ConfigError, match="99"):
        train_camera_teacher.run(arguments(tmp_path, "--data", str(tmp_path), "--holdout", "99"))
    with pytest.raises(InputError, match="no camera images"):
        train_camera_teacher.run(
            arguments(tmp_path, "--data", str(tmp_path), "--images", str(tmp_path))
        )
    with pytest.raises(ConfigError, match="steps"):
        FitConfig(steps=0)
