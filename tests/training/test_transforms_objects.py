# SPDX-License-Identifier: Apache-2.0
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from training.transforms import concatenate, having, place_objects
from training.transforms.objects import connected, find_objects

from .clouds import PERSON, ROAD, WALL, block, ground, paired, rows, street

PEOPLE = concatenate([ground(), block(10, 0, PERSON), block(0, -15, PERSON)])


def ring_wall(radius=20.0):
    turn = np.linspace(0, 2 * np.pi, 2000, endpoint=False)
    z = np.arange(-1.6, 2, 0.2)
    t, h = (g.ravel() for g in np.meshgrid(turn, z))
    xyz = np.stack([radius * np.cos(t), radius * np.sin(t), h], 1).astype(np.float32)
    points = block(0, 0, WALL)
    return type(points)(
        xyz, np.full(len(xyz), WALL / 20, np.float32), np.full(len(xyz), WALL, np.uint8)
    )


def test_clusters_are_objects():
    found = find_objects(PEOPLE, PERSON)
    assert len(found) == 2
    for index in found:
        assert (PEOPLE.labels[index] == PERSON).all()
        assert np.ptp(PEOPLE.xyz[index], 0).max() < 2
    assert find_objects(PEOPLE, 3) == []
    assert find_objects(block(5, 5, PERSON, size=(0.1, 0.1, 0.1)), PERSON) == []  # 8 points


@given(st.sets(st.tuples(st.integers(0, 7), st.integers(0, 7)), min_size=1, max_size=30))
def test_connected_cells_equal_a_flood_fill(cells):
    cells = sorted(cells)
    group = {}
    for start in cells:
        if start not in group:
            group[start], front = start, [start]
            while front:
                x, y = front.pop()
                for near in [(x + i, y + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]:
                    if near in cells and near not in group:
                        group[near] = start
                        front.append(near)
    mine = connected(np.array(cells))
    theirs = [cells.index(group[c]) for c in cells]
    assert len(set(mine)) == len(set(theirs)) == len(set(zip(mine, theirs, strict=True)))


def placed(scene, seed, attempts=1):
    result = place_objects(scene, PEOPLE, [PERSON], [ROAD], np.random.default_rng(seed), attempts)
    return result, result.select(result.labels == PERSON)


def test_an_object_keeps_its_shape_and_range_and_stands_on_the_ground():
    scene = concatenate([ground(z=-1.2), ring_wall()])
    for seed in range(10):
        result, person = placed(scene, seed)
        assert paired(result)
        assert len(person) == len(block(10, 0, PERSON))
        distance = np.hypot(*person.xyz[:, :2].mean(0))
        assert min(abs(distance - 10), abs(distance - 15)) < 0.01
        assert abs(person.xyz[:, 2].min() - -1.2) < 0.05  # half a metre higher than it was
        assert np.ptp(person.xyz[:, 2]) == np.ptp(block(0, 0, PERSON).xyz[:, 2])


def test_what_an_object_hides_is_removed_and_nothing_else():
    scene = concatenate([ground(), ring_wall()])
    result, person = placed(scene, 0)
    there = rows(result)
    lost = scene.select(np.array([row.tobytes() not in there for row in scene.xyz]))
    assert rows(result.select(result.labels != PERSON)) | rows(lost) == rows(scene)
    assert len(result) + len(lost) == len(scene) + len(person)
    middle = np.arctan2(*person.xyz[:, 1::-1].mean(0))
    turn = np.arctan2(lost.xyz[:, 1], lost.xyz[:, 0]) - middle
    assert np.abs((turn + np.pi) % (2 * np.pi) - np.pi).max() < 0.06
    assert np.hypot(*lost.xyz[:, :2].T).min() > np.hypot(*person.xyz[:, :2].T).min()
    assert set(lost.labels) == {ROAD, WALL}  # the ground behind it and the wall


def test_objects_never_stand_in_others_or_behind_them():
    near_wall, blocked = ring_wall(8.0), concatenate([ground(), ring_wall(10.0), ring_wall(15.0)])
    for seed in range(10):
        hidden, person = placed(concatenate([ground(), near_wall]), seed)
        assert len(person) == 0  # at 10 and 15 m it would stand behind the wall at 8 m
        assert len(hidden) == len(ground()) + len(near_wall)
        assert len(placed(blocked, seed)[1]) == 0


def test_placed_objects_make_room_for_each_other():
    scene = ground()
    result, _ = placed(scene, 0, attempts=60)
    people = find_objects(result, PERSON)
    assert len(people) > 3
    whole = [i for i in people if len(i) == len(block(10, 0, PERSON))]
    assert len(whole) > 1
    centres = np.array([result.xyz[i, :2].mean(0) for i in whole])
    apart = np.linalg.norm(centres[:, None] - centres[None], axis=-1)
    assert apart[~np.eye(len(whole), dtype=bool)].min() > 0.6


def test_there_must_be_ground_and_objects():
    scene = ring_wall()
    result, person = placed(scene, 0)
    assert len(person) == 0
    assert result.xyz.shape == scene.xyz.shape
    nobody = place_objects(ground(), ground(), [PERSON], [ROAD], np.random.default_rng(0), 3)
    np.testing.assert_array_equal(nobody.xyz, ground().xyz)
    steep = concatenate([ground(z=-4.0)])
    assert len(placed(steep, 0)[1]) == 0  # 2.3 m lower: another kind of place


@given(st.integers(0, 500))
def test_placing_is_a_function_of_the_seed_and_leaves_its_input(seed):
    scene, donor = street(0, 2000), street(1, 2000)
    before = scene.xyz.copy()
    pair = [
        place_objects(scene, donor, [1, 2, 3], [8, 9], np.random.default_rng(seed), 3)
        for _ in range(2)
    ]
    np.testing.assert_array_equal(pair[0].xyz, pair[1].xyz)
    np.testing.assert_array_equal(scene.xyz, before)
    assert paired(pair[0])


def test_ground_labels_may_be_unions():
    scene = ground()
    union = type(scene)(scene.xyz, scene.intensity, np.full(len(scene), 23, np.uint8))
    result = place_objects(union, PEOPLE, [PERSON], [ROAD, 23], np.random.default_rng(0), 1)
    assert having(result, [PERSON]).any()
