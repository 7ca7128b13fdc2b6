# SPDX-License-Identifier: Apache-2.0
"""Data with everything that a distillation may ask for: poses, images, kept class scores."""

import json

import numpy as np
from PIL import Image

from pointdistill_ros.labels import LabelSet
from training.camera.network import CameraNet, CameraNetConfig
from training.camera.weights import save_camera_teacher
from training.pseudo_files import PseudoFolder, packed_cloud
from training.self_training import SoftLabels

from ..test_self_training import cloud

KITTI = LabelSet.named("semantic-kitti")
_P2 = "40 0 39.5 0 0 40 19.5 0 0 0 1 0"  # of images of 80×40 pixels, kept at half that size
_TR = "0 -1 0 0 0 0 -1 0 1 0 0 0"


def drive(folder, frames=3, seed=0):
    """Packed scans of one drive, a metre apart; the first has an image."""
    world = np.random.default_rng(seed).uniform([-15, -15, -2], [15, 15, 1], (1200, 3))
    entries = []
    for i in range(frames):
        pose = np.eye(4)
        pose[0, 3] = i
        xyz = world - pose[:3, 3]
        seen = np.random.default_rng(i).random(len(xyz)) < 0.6
        np.savez(
            folder / f"{i}.npz",
            xyz=np.round(xyz[seen] * 256).astype(np.int16),
            q=256,
            inten=np.full(seen.sum(), 50, np.uint8),
            label19=np.where(world[seen, 2] < -1, 8, 14).astype(np.uint8),
            label7=np.zeros(seen.sum(), np.uint8),
            pose=pose,
        )
        entry = {"path": f"{i}.npz", "dataset": "SemanticKITTI", "sequence": "00", "frame": i}
        entries.append(entry | {"split": "train"})
    (folder / "manifest.json").write_text(json.dumps({"files": entries}))
    images = folder / "semantickitti_images"
    images.mkdir()
    pixels = np.random.default_rng(5).integers(0, 255, (20, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(images / "00_000000.png")
    (images / "00_calib.txt").write_text(f"P2: {_P2}\nTr: {_TR}\n")
    return folder


def labelled_by_a_network(root, soft=3, scans=2):
    """Scans with the labels of a network and its class scores; doubtful labels are 255."""
    folder = PseudoFolder(root)
    for i in range(scans):
        rng = np.random.default_rng(i)
        row = np.arange(600, dtype=np.int32) // 2
        found = SoftLabels(row, rng.dirichlet(np.full(19, 0.1), 300).astype(np.float32))
        folder.write_cloud(f"{i}", "unlabelled", packed_cloud(cloud(i, 600)))
        folder.write_scores(f"{i}", found, "", "", soft)
        labels = np.where(found.confidence() < 60, np.uint8(255), found.labels())
        folder.write_labels(f"{i}", labels, found.confidence())
    return root


def camera_weights(path):
    network = CameraNet(CameraNetConfig(19, (8, 8, 8, 8), (0, 1, 0), 8))
    save_camera_teacher(path, network, KITTI, {})
    return path
