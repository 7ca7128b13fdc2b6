# SPDX-License-Identifier: Apache-2.0
"""Runtime settings: frozen dataclasses, complete defaults, one docstring per field.

An empty YAML file is a valid configuration; a misspelt key or a value out of range is refused with
its dotted path. The same dataclasses declare the ROS parameters.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import yaml

from pointdistill_ros.errors import ConfigError
from pointdistill_ros.io.cloud_filter import FilterFormat
from pointdistill_ros.io.cloud_parts import OutputLayout
from pointdistill_ros.io.columns import IntensityScale

T = TypeVar("T")


@dataclass(frozen=True)
class Range:
    """Both ends are allowed. Stands in ``Annotated`` beside the type of a field."""

    low: float
    high: float


@dataclass(frozen=True)
class Live:
    """Marks a field that a running node may change; without it the ROS parameter is read-only."""


def check_fields(config: Any) -> None:
    """Refuse values outside a field's Range or Literal. Raises ValueError naming both."""
    hints = get_type_hints(type(config), include_extras=True)
    for entry in fields(config):
        value, hint = getattr(config, entry.name), hints[entry.name]
        kind, *marks = get_args(hint) if get_origin(hint) is Annotated else (hint,)
        if get_origin(kind) is Literal and value not in get_args(kind):
            choices = ", ".join(map(str, get_args(kind)))
            raise ValueError(f"{entry.name} must be one of {choices}; got {value!r}")
        for mark in marks:
            # written so that NaN is refused too
            if isinstance(mark, Range) and not mark.low <= value <= mark.high:
                raise ValueError(
                    f"{entry.name} must lie in {mark.low:g} .. {mark.high:g}; got {value:g}"
                )


@dataclass(frozen=True)
class ModelConfig:
    """Which network runs where."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - read by pydantic, never changed

    path: str = "student"
    """Name of a shipped network (student, teacher) or path of a .safetensors checkpoint."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N; auto takes the GPU where there is one."""
    engine: str = "auto"
    """Form of the network: auto (the fastest here), native, torch, cuda, onnxruntime, openvino."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Arithmetic; the 16-bit ones are faster where the engine has them, and change few labels."""
    threads: Annotated[int, Range(0, 256)] = 0
    """CPU threads of the network; 0 takes all cores, but one less where there are more than two."""
    max_latency_ms: Annotated[float, Range(0.0, 60000.0), Live()] = 0.0
    """Milliseconds from taking a cloud to having published its labels, decoding included, waiting
    for the cloud before not; where it would take longer, voxels are left out. 0 = no limit."""

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class InputConfig:
    """How clouds come in."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    reliability: Literal["best_effort", "reliable"] = "best_effort"
    """QoS of the subscription; best_effort matches every publisher."""
    depth: Annotated[int, Range(1, 1000)] = 1
    """QoS history of the subscription. More than 1 only makes results older."""
    max_age: Annotated[float, Range(0.0, 3600.0), Live()] = 0.5
    """Seconds after which a waiting cloud is dropped as stale; 0 never drops."""
    intensity_field: Annotated[str, Live()] = "auto"
    """Field to read as intensity; auto takes the first known name."""
    intensity_scale: Annotated[IntensityScale, Live()] = "auto"
    """How intensities come to 0..1; auto guesses from each cloud's largest value."""
    zero_is_no_return: Annotated[bool, Live()] = False
    """Points at exactly (0, 0, 0) are missing returns, as some drivers write them."""
    max_points: Annotated[int, Range(1, 100_000_000), Live()] = 2_000_000
    """A cloud of more points is refused and told; labelling only its beginning would leave a sector
    without labels."""
    z_offset: Annotated[float, Range(-100.0, 100.0), Live()] = 0.0
    """Metres added to z before the network: how much higher above the road this sensor (or
    target_frame) is than the one of the training. The labelled cloud keeps its coordinates."""
    target_frame: str = ""
    """Frame of the vehicle, x forward, z up, in which the network sees the scan (by tf2, before
    z_offset); empty: the cloud's own. The labelled cloud keeps its frame."""

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class OutputConfig:
    """How labels go out."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    layout: Annotated[OutputLayout, Live()] = "xyzcpe_aligned"
    """Point layout of the labelled cloud: x y z class_id probability entropy in 24 or 21 bytes,
    the same three appended to the input's own fields, or x y z rgb."""
    classes: str = "model"
    """Classes that go out: model (the network's), or a label set to which the network's has a
    remap, e.g. autoware. ~/class_info tells which."""
    lazy: Annotated[bool, Live()] = True
    """Label no cloud while nobody listens to what depends on labels; false labels all."""

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class FilterConfig:
    """Which points ~/filtered leaves out. None by default: class names depend on the network."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    classes: Annotated[tuple[str, ...], Live()] = ()
    """Classes to leave out, by their names in ~/class_info; [] or [''] leaves out none."""
    class_probability_threshold: Annotated[float, Range(0.0, 1.0), Live()] = 0.5
    """A point is left out where its class is one of these and at least this probable. Only the most
    probable class of a point is known, so less than 0.5 spares points where another one leads."""
    output_format: Annotated[FilterFormat, Live()] = "input"
    """Layout of ~/filtered: the input's, or one of Autoware's made of the input's fields."""

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class PaceConfig:
    """How much of the machine labelling may take: a teacher leaves the student its share."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    every: Annotated[int, Range(1, 1000), Live()] = 1
    """Label one cloud of so many; 1 labels all."""
    max_load: Annotated[float, Range(0.01, 1.0), Live()] = 1.0
    """Share of the time that labelling may take: after each cloud the node rests accordingly, then
    takes the newest. 1 never rests."""
    priority: Literal["normal", "low", "idle"] = "normal"
    """CPU scheduling of the network's threads. low: nice 10 and SCHED_BATCH; idle: SCHED_IDLE, they
    run where nobody else wants to."""

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class DiagnosticsConfig:
    """When the node calls itself unwell."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    silent_after: Annotated[float, Range(0.1, 3600.0), Live()] = 1.0
    """Seconds without a cloud that are an ERROR; two periods of the sensor are a WARN."""
    warn_age: Annotated[float, Range(0.0, 3600.0), Live()] = 0.2
    """Age of results in seconds (95th percentile) that is a WARN."""
    error_age: Annotated[float, Range(0.0, 3600.0), Live()] = 1.0
    """Age of results in seconds (95th percentile) that is an ERROR; at least warn_age."""
    warn_dropped: Annotated[bool, Live()] = True
    """Old clouds dropped because the node is slower than the sensor are a WARN."""
    log_period: Annotated[float, Range(0.0, 3600.0), Live()] = 5.0
    """Seconds between two lines of the log about clouds that got no labels; 0 logs each."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.error_age < self.warn_age:
            raise ValueError(
                f"error_age ({self.error_age:g}) must not be below warn_age ({self.warn_age:g})"
            )


@dataclass(frozen=True)
class DriftConfig:
    """When the node says that clouds are unlike those its network is known to label well."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    reference: str = ""
    """What is usual for these weights and this sensor, as training.calibrate_drift wrote it: a
    path, or auto for NAME.drift.json beside the weights. Empty: drift is not measured."""
    warn: Annotated[float, Range(0.01, 1000.0), Live()] = 1.0
    """Median score of the last ten clouds that is a WARN; 1 is the limit of the calibration."""
    alarm: Annotated[float, Range(0.01, 1000.0), Live()] = 1.5
    """The one that is an ERROR; at least warn."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.alarm < self.warn:
            raise ValueError(f"alarm ({self.alarm:g}) must not be below warn ({self.warn:g})")


@dataclass(frozen=True)
class NodeConfig:
    """Every parameter of the segmentation node; the teacher is the same node with other weights."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    autostart: bool = True
    """Configure and activate at start, without a lifecycle manager."""
    model: ModelConfig = field(default_factory=ModelConfig)
    input: InputConfig = field(default_factory=InputConfig)
    output: OutputConfig = field(default_factory=OutputConfig)
    filter: FilterConfig = field(default_factory=FilterConfig)
    pace: PaceConfig = field(default_factory=PaceConfig)
    diagnostics: DiagnosticsConfig = field(default_factory=DiagnosticsConfig)
    drift: DriftConfig = field(default_factory=DriftConfig)


def load_config(kind: type[T], path: Path) -> T:
    """Read a YAML file into a configuration dataclass. Raises ConfigError with file and key."""
    try:
        data = yaml.safe_load(path.read_text()) or {}
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: {error}") from error
    return parse_config(kind, data, str(path))


def parse_config(kind: type[T], data: Any, source: str) -> T:
    """Plain data into a configuration dataclass; ``source`` names it in errors."""
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(kind).validate_python(data)
    except ValidationError as error:
        details = "; ".join(
            f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors()
        )
        raise ConfigError(f"{source}: {details}") from error
