# SPDX-License-Identifier: Apache-2.0
import pytest
import yaml

from pointdistill_ros.errors import CheckpointError, ConfigError
from training.ablations.cell import cells
from training.ablations.child import command
from training.ablations.plan import Plan, Row, load_plan, merged, plan_names, plan_path, recipes
from training.config import TrainConfig
from training.distillation.config import DistillConfig

from .fake_ablation import BASE, fake_cells

SOFT = {"soft_targets": {"weight": 1}}


def found(tmp_path, *rows, base=BASE, changes=None):
    return recipes(Plan(base, rows), tmp_path / "plan.yaml", changes)


def test_changes_are_merged_into_the_base_field_by_field(tmp_path):
    base = {**BASE, "topology": {"weight": 0, "settings": {"m": 64}}}
    row = Row("a", {"topology": {"weight": 0.1, "settings": {"distance": "sliced-wasserstein"}}})
    config = found(tmp_path, row, base=base)["a"]
    assert (config.topology.weight, config.topology.settings.m) == (0.1, 64)
    assert config.topology.settings.distance == "sliced-wasserstein"
    assert base["topology"] == {"weight": 0, "settings": {"m": 64}}


def test_lists_are_replaced_not_joined():
    assert merged({"a": [1, 2], "b": {"c": 1}}, {"a": [3], "b": 4}) == {"a": [3], "b": 4}


def test_a_row_that_distils_nothing_learns_from_labels_alone(tmp_path):
    configs = found(
        tmp_path, Row("none"), Row("soft", SOFT), Row("together", {"teacher": "together"})
    )
    assert type(configs["none"]) is TrainConfig
    assert isinstance(configs["soft"], DistillConfig)
    assert isinstance(configs["together"], DistillConfig)
    shared = [n for n in vars(configs["none"]) if n != "sources"]
    assert all(getattr(configs["none"], n) == getattr(configs["soft"], n) for n in shared)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rows: []\nbase: {}", "at least one"),
        ("rows: [{name: a}, {name: a}]\nbase: {}", "twice"),
        ("rows: [{name: a}]\nbase: {}\nseeds: [1, 1]", "twice"),
        ("rows: [{name: a}]\nbase: {}\nseeds: [-1]", "seeds must be"),
        ("rows: [{name: ../a}]\nbase: {}", "names a folder"),
        ("rows: [{name: a, against: b}]\nbase: {}", "row a: against"),
        ("rows: [{name: a, against: a}]\nbase: {}", "row a: against"),
        ("rows: [{name: a, chnages: {}}]\nbase: {}", "rows.0.chnages"),
        ("rows: [{name: a}]\nbase: nope", "base: nope"),
        ("rows: [{name: a}]\nbase: {}", "no length"),
        ("rows: [{name: a}]\nbase: {steps: 0}", "steps must be"),
        ("rows: [{name: a, changes: {steps: 9}}]\nbase: {steps: 3}", "row a: changes steps"),
        ("rows: [{name: a, changes: {seed: 9}}]\nbase: {steps: 3}", "row a: changes seed"),
        (
            "rows: [{name: a, changes: {accumulate: 9}}]\nbase: {steps: 3}",
            "row a: changes accumulate",
        ),
        ("rows: [{name: a, changes: {topology: {wieght: 1}}}]\nbase: {steps: 3}", "wieght"),
        ("rows: [{name: a, changes: {topology: {weight: -1}}}]\nbase: {steps: 3}", "≥ 0"),
    ],
)
def test_a_mistake_names_the_file_and_the_field(tmp_path, text, words):
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        recipes(load_plan(path), path)
    assert words in str(error.value) and str(path) in str(error.value)


def test_another_length_replaces_the_base_s(tmp_path):
    base = {**BASE, "steps": None, "minutes": 3}
    config = found(tmp_path, Row("a"), base=base, changes={"steps": 7})["a"]
    assert (config.steps, config.minutes) == (7, None)


def test_unknown_plans_are_refused_with_those_there_are():
    with pytest.raises(ConfigError, match=r"plans are .*cpu"):
        plan_path("nope")


@pytest.mark.parametrize("name", plan_names())
def test_shipped_plans_are_whole(name):
    path = plan_path(name)
    plan = load_plan(path)
    configs = recipes(plan, path)
    assert path.read_text().startswith("# ")
    assert len(plan.seeds) >= 3
    plain = {name for name, config in configs.items() if type(config) is TrainConfig}
    assert "none" in plain <= {"none", "self-training"}  # the others have a term
    distinct = {yaml.safe_dump(row.changes) for row in plan.rows}
    assert len(distinct) == len(plan.rows)


def test_cells_come_seed_by_seed_each_with_its_seed(tmp_path):
    made = fake_cells(tmp_path, seeds=(5, 3))
    assert [(c.seed, c.row.name) for c in made] == [
        (5, "none"),
        (5, "together"),
        (3, "none"),
        (3, "together"),
    ]
    assert all(cell.config.seed == cell.seed for cell in made)
    assert len({cell.folder for cell in made}) == 4


def test_a_frozen_teacher_must_be_named_and_be_there(tmp_path):
    rows = (Row("none"), Row("soft", SOFT))
    with pytest.raises(ConfigError, match=r"row soft .*--teacher"):
        fake_cells(tmp_path, rows)
    with pytest.raises(CheckpointError, match=r"nothing\.safetensors"):
        fake_cells(tmp_path, rows, teacher="nothing.safetensors")
    (tmp_path / "t.safetensors").write_bytes(b"weights")
    none, soft = fake_cells(tmp_path, rows, (0,), teacher=str(tmp_path / "t.safetensors"))
    assert none.teacher is None and soft.teacher.path == tmp_path / "t.safetensors"


def test_a_row_may_have_a_teacher_of_its_own(tmp_path):
    for name in ("one", "other"):
        (tmp_path / f"{name}.safetensors").write_bytes(name.encode())
    one, other = (str(tmp_path / f"{name}.safetensors") for name in ("one", "other"))
    rows = (Row("a", SOFT), Row("b", SOFT, teacher=other))
    a, b = fake_cells(tmp_path, rows, (0,), teacher=one)
    assert (str(a.teacher.path), str(b.teacher.path)) == (one, other)
    assert a.teacher.sha256 != b.teacher.sha256


def test_other_weights_under_the_same_name_are_noticed(tmp_path):
    weights = tmp_path / "t.safetensors"
    weights.write_bytes(b"old")
    rows = (Row("soft", SOFT),)
    fake_cells(tmp_path, rows, (0,), teacher=str(weights))[0].begin()
    fake_cells(tmp_path, rows, (0,), teacher=str(weights))
    weights.write_bytes(b"new")
    with pytest.raises(ConfigError, match=r"soft/seed0: was distilled from other weights"):
        fake_cells(tmp_path, rows, (0,), teacher=str(weights))


def test_a_changed_plan_is_not_mixed_with_old_runs(tmp_path):
    cell = fake_cells(tmp_path)[0]
    cell.begin()
    config = yaml.safe_load(cell.recipe.read_text()) | {"seed": cell.seed}
    (cell.folder / "config.yaml").write_text(yaml.safe_dump(config))
    fake_cells(tmp_path)
    with pytest.raises(ConfigError, match=r"config.yaml: the plan differs in steps"):
        fake_cells(tmp_path, steps=21)
    plan = Plan(BASE, (Row("none", {**SOFT, "teacher": "together"}),))
    cells(plan, recipes(plan, tmp_path), tmp_path / "elsewhere", None)


def test_a_row_with_a_camera_needs_its_weights(tmp_path):
    rows = (Row("none"), Row("camera", {"teacher": "none", "camera": {"rendered": True}}))
    with pytest.raises(ConfigError, match=r"row camera has a camera.*--camera"):
        fake_cells(tmp_path, rows)
    weights = tmp_path / "c.safetensors"
    with pytest.raises(CheckpointError, match=r"c\.safetensors"):
        fake_cells(tmp_path, rows, camera=weights)
    weights.write_bytes(b"old")
    none, camera = fake_cells(tmp_path, rows, (0,), camera=weights)
    assert none.camera is None and camera.teacher is None
    words = command(camera, None, tmp_path)
    assert words[words.index("--camera") + 1] == str(weights) and "--teacher" not in words
    camera.begin()
    weights.write_bytes(b"new")
    with pytest.raises(ConfigError, match=r"camera/seed0: was distilled from other weights"):
        fake_cells(tmp_path, rows, (0,), camera=weights)
