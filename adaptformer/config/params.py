"""Typed sections of params.yaml, and their loader.

params.yaml is the only place for values: the models below have no defaults, so a key that is missing there or unknown
here is an error that names it.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from adaptformer.base import files, names, yaml_text
from adaptformer.base.errors import UserError, has_credentials
from adaptformer.config import renamed

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Fraction = Annotated[float, Field(gt=0, lt=1)]
Rate = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(gt=0, le=1)]
Text = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"is not a valid regular expression: {error}") from error
    return text


class Section(BaseModel):
    """A frozen section of params.yaml that knows exactly its own keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _plain(cls, value: object, info: ValidationInfo) -> object:
        """Refuse true as a number or a text, and characters that would steer a terminal or cannot be stored."""
        switch = info.field_name is not None and cls.model_fields[info.field_name].annotation is bool
        for part in value if isinstance(value, list | tuple) else [value]:
            if isinstance(part, bool) and not switch:
                raise ValueError("true and false are neither numbers nor texts")
            if isinstance(part, str) and names.unseen(part):
                raise ValueError("has characters that cannot be shown")
        # JSON has no tuples, and with strict types (schema.py) a list is not accepted as one.
        return tuple(value) if isinstance(value, list) else value


class DataParams(Section):
    """The data set's name and date, and how missing splits are made."""

    name: Text
    date: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\d$")] | None
    validation_fraction: Fraction
    test_fraction: Fraction
    group_pattern: Annotated[str, AfterValidator(_pattern)] | None
    seed: Annotated[int, Field(ge=0)]
    max_file_mb: Count
    max_megapixels: Count

    @property
    def title(self) -> str:
        """The data set as pages name it."""
        return self.name if self.date is None else f"{self.name} of {self.date}"


Level = Literal["error", "warn", "none"]


class ChecksParams(Section):
    """How serious each kind of finding about the data is (curation/checks/findings.py)."""

    leaks: Level
    label_conflicts: Level
    duplicates: Level
    constant: Level
    dark: Level
    bright: Level
    low_contrast: Level
    sixteen_bits: Level
    small: Level
    rare_modes: Level
    imbalance: Level
    few_images: Level
    missing_classes: Level


class ImageParams(Section):
    """The image contract without mean and std, which come with the checkpoint."""

    size: Annotated[int, Field(ge=8, le=2048)]
    resize: Literal["crop", "pad", "squash"]
    crop_fraction: Share
    interpolation: Literal["bilinear", "bicubic"]
    jpeg_min_scale: Annotated[int, Field(ge=0)]
    sixteen_bit_max: Annotated[int, Field(ge=255, le=65535)]


Channel = Annotated[float, Field(ge=0, le=1)]
Spread = Annotated[float, Field(gt=0, le=100)]


class BackboneParams(Section):
    """Which pretrained checkpoint is fetched, for which architecture, and what the user states about it."""

    model: Text
    checkpoint: Text
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None
    weights: Text
    licence: Text | None
    mean: tuple[Channel, Channel, Channel] | None
    std: tuple[Spread, Spread, Spread] | None
    allowed_licences: Annotated[tuple[Text, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _mean_has_a_std(self) -> BackboneParams:
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std belong together: give both, or null for both")
        return self


class AdapterParams(Section):
    """The parameters that are added to the backbone, or the parts of it that are trained."""

    method: Literal["adaptformer", "vpt", "linear", "full"]
    bottlenecks: Annotated[tuple[Annotated[int, Field(ge=1, le=65536)], ...], Field(min_length=1, max_length=64)]
    scale: float | Literal["learned", "channel"]
    activation: Literal["relu", "gelu"]
    input: Literal["residual", "norm2"]
    placement: Literal["parallel", "sequential", "after"]
    layernorm: Literal["none", "in", "out"]
    init: Literal["lora", "houlsby"]
    dropout: Rate
    drop_path: Rate
    prompts: Annotated[int, Field(ge=1, le=65536)]
    prompt_depth: Literal["deep", "shallow"]
    pooling: Literal["mean", "token"]

    @model_validator(mode="after")
    def _input_fits_placement(self) -> AdapterParams:
        if self.input == "norm2" and self.placement != "parallel":
            raise ValueError(f"input: norm2 goes with placement: parallel, not {self.placement}")
        return self


class TrainingParams(Section):
    """How the adapters are trained."""

    seed: Annotated[int, Field(ge=0)]
    schedule: Literal["joint", "slotwise", "layerwise"]
    rounds: Count
    block_order: Literal["up", "down", "random"]
    epochs: Count
    rollback_above: Positive
    head_statistics: Literal["recomputed", "running"]
    statistics_fraction: Share
    reset_statistics: bool
    batch_size: Annotated[int, Field(ge=2)]
    gradient_accumulation: Count
    optimiser: Literal["sgd", "adamw"]
    base_lr: Positive
    scale_lr: bool
    momentum: Rate
    weight_decay: Annotated[float, Field(ge=0)]
    warmup_fraction: Rate
    warmup_steps: Annotated[int, Field(ge=0)] | None
    drop_path: Rate
    crop_scale: tuple[Share, Share]
    crop_ratio: tuple[Positive, Positive]
    flip: bool
    fixed_crops: Annotated[int, Field(ge=0)]
    label_smoothing: Rate
    class_balance: Literal["none", "loss", "sampler"]
    class_balance_power: Share
    selection_metric: Literal["top1", "balanced_accuracy", "macro_f1", "loss"]
    precision: Literal["auto", "fp32", "bf16"]

    @model_validator(mode="after")
    def _ranges_rise(self) -> TrainingParams:
        for name in ("crop_scale", "crop_ratio"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} must be [low, high], not [{low}, {high}]")
        if self.batch_size % self.gradient_accumulation:
            raise ValueError(
                f"batch_size {self.batch_size} is not a multiple of gradient_accumulation {self.gradient_accumulation}"
            )
        return self


class EvaluationParams(Section):
    """How the test split is judged."""

    batch_size: Count


class ExportParams(Section):
    """The ONNX file and the bound within which it must agree with the trained model."""

    opset: Annotated[int, Field(ge=18, le=23)]
    external_data_mb: Annotated[int, Field(ge=0, le=2000)]
    parity_images: Count
    parity_tolerance: Positive


class RegistryParams(Section):
    """Where results are tracked and under which name the model is registered."""

    model: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
    experiment: Text
    promotion: Literal["auto", "never"]


class GateParams(Section):
    """Conditions for a challenger to take the champion's place; all scores are those on unseen test images."""

    metric: Literal["top1", "balanced_accuracy", "macro_f1"]
    margin: Annotated[float, Field(gt=-1, lt=1)]
    significance: Fraction
    max_class_drop: Annotated[float, Field(ge=0, le=1)]
    min_class_images: Count
    max_shared_drop: Annotated[float, Field(ge=0, le=1)]
    min_added_top1: Share
    removed_classes: tuple[Text, ...]
    renamed_classes: tuple[tuple[Text, Text], ...]
    max_negative_flips: Rate | None
    max_log_loss_rise: Annotated[float, Field(ge=0)]
    max_latency_ratio: Positive
    min_latency_ms: Annotated[float, Field(ge=0)]
    max_size_ratio: Positive
    parity_tolerance: Positive
    warn_drift: Share


class ComparisonParams(Section):
    """The methods, values and seeds that `adaptformer/compare` compares."""

    methods: Annotated[tuple[Text, ...], Field(min_length=1)]
    overrides: tuple[Annotated[str, Field(pattern=r"^[a-z_]+\.[a-z_]+(=|$)")], ...]
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]


class SweepParams(Section):
    """The values that `adaptformer sweep` searches, and how it searches them."""

    search: Annotated[tuple[Text, ...], Field(min_length=1)]
    overrides: tuple[Annotated[str, Field(pattern=r"^[a-z_.]+=")], ...]
    trials: Count
    sampler: Literal["tpe", "random", "grid"]
    pruner: Literal["median", "none"]
    seed: Annotated[int, Field(ge=0)]
    storage: str | None


class RuntimeParams(Section):
    """Where a run is computed and how fast; changes no result beyond rounding."""

    device: Literal["auto", "cpu", "cuda"]
    processes: Annotated[int, Field(ge=1)]
    threads: Annotated[int, Field(ge=0)]
    compile: bool
    progress: Literal["auto", "none"]
    tensorboard: str | None
    save_every_steps: Annotated[int, Field(ge=0)]
    resume: Literal["same_code", "any_code"]
    feature_cache_gb: Annotated[float, Field(ge=0)]
    image_cache_gb: Annotated[float, Field(ge=0)] | None


class Params(Section):
    """The whole of params.yaml."""

    data: DataParams
    checks: ChecksParams
    image: ImageParams
    backbone: BackboneParams
    adapter: AdapterParams
    training: TrainingParams
    evaluation: EvaluationParams
    export: ExportParams
    registry: RegistryParams
    gate: GateParams
    comparison: ComparisonParams
    sweep: SweepParams
    runtime: RuntimeParams


UNTRACKED_SECTIONS = ("registry", "gate", "comparison", "sweep", "runtime")
"""The sections that no DVC stage depends on."""


@dataclass(frozen=True)
class ParamsFile:
    """A params file as it was read: its params, its values by section, and the sha256 of its bytes."""

    path: Path
    params: Params
    content: Mapping[str, Any]
    sha256: str

    def replaced(self, overrides: Mapping[str, object]) -> Params:
        """Return the file's params with `overrides`, values by dotted key, in place of its own.

        Raises UserError that names the first faulty override and what to do about it.
        """
        changed = {section: dict(values) for section, values in self.content.items()}
        values = [known for known in known_keys() if "." in known]
        for key, value in overrides.items():
            if key not in values:
                given = brief(str(key))
                close = _closest(given, values)
                hint = f"did you mean {close}?" if close else "the keys are those of params.yaml: section.key"
                raise UserError(f"the override {given or '(empty)'} is no key of params.yaml", hint)
            if has_credentials(str(value)):
                raise UserError(
                    f"the override {key} holds a password, a token or a signature, which all records would show",
                    f"put {key} into params.yaml, or give the secret in the environment",
                )
            section, _, name = key.partition(".")
            changed[section][name] = value
        # The file alone is valid, so any fault now comes from an override.
        return _validated(changed, "the overrides")

    def require_unchanged(self) -> None:
        """Raise UserError if the file has changed since it was read."""
        if not self.path.is_file() or files.sha256_file(self.path) != self.sha256:
            raise UserError(f"{self.path} changed while it was in use", "run the same command again")


def read(path: Path = Path("params.yaml")) -> ParamsFile:
    """Read a params file. Raises UserError that names the first faulty key and what to do about it."""
    try:
        content = path.read_bytes()
        sections = yaml_text.parse(content.decode())
    except FileNotFoundError as error:
        raise UserError(
            f"there is no {path}", "run the command in the folder of a project: `adaptformer init DIR` makes one"
        ) from error
    except (OSError, ValueError) as error:
        line = " ".join(str(error).split())
        raise UserError(
            f"{path} cannot be read: {line}", f"correct {path}; `git diff {path}` shows what changed"
        ) from error
    if not isinstance(sections, Mapping):
        raise UserError(f"{path} holds no sections", f"restore it with `git checkout {path}`")
    return ParamsFile(path, _validated(sections, str(path)), sections, hashlib.sha256(content).hexdigest())


def load(path: Path = Path("params.yaml"), overrides: Mapping[str, object] | None = None) -> Params:
    """Return the params of the file at `path`, with `overrides` by dotted key; raises as `read` and `replaced` do."""
    return read(path).replaced(overrides or {})


def parse_overrides(arguments: Iterable[str]) -> dict[str, object]:
    """Return overrides given as `section.key=value` on a command line; values are read as in params.yaml.

    The last value of a key counts. Raises UserError for an argument of another form.
    """
    overrides: dict[str, object] = {}
    for argument in arguments:
        key, sign, text = argument.partition("=")
        if not sign:
            raise UserError(f"the override {brief(argument)} has no value", "write it as training.epochs=3")
        try:
            overrides[key.strip()] = yaml_text.parse(text)
        except ValueError as error:
            raise UserError(
                f"the value of the override {brief(argument)} cannot be read: {error}",
                "write it as in params.yaml, quoted for the shell: 'adapter.bottlenecks=[16, 16]'",
            ) from error
    return overrides


def flat(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested sections as dotted keys with their values."""
    sections = ((section, values) for section, values in content.items() if isinstance(values, Mapping))
    return {f"{section}.{key}": value for section, values in sections for key, value in values.items()}


def as_override(key: str, value: object) -> str:
    """Return `key=value` as the command line takes it; the inverse of `parse_overrides`."""
    return f"{key}={yaml_text.line(value)}"


def brief(text: str) -> str:
    """Return the beginning of a text that may be too long for a message."""
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def difference(present: Params, changed: Params) -> dict[str, Any]:
    """Return, by dotted key, the values of `changed` that differ from those of `present`."""
    before = flat(present.model_dump(mode="json"))
    return {key: value for key, value in flat(changed.model_dump(mode="json")).items() if value != before[key]}


def known_keys() -> list[str]:
    """Return every key of params.yaml, dotted, sections included."""
    keys = []
    for name, field in Params.model_fields.items():
        section: Any = field.annotation
        keys += [name, *(f"{name}.{key}" for key in section.model_fields)]
    return keys


def tracked(params: Params) -> dict[str, Any]:
    """Return the sections that results depend on, as plain values: all but UNTRACKED_SECTIONS."""
    return params.model_dump(mode="json", exclude=set(UNTRACKED_SECTIONS))


def _validated(content: Mapping[str, Any], origin: str) -> Params:
    """Return the params with these values. Raises UserError: one line of cause for pydantic's faults, one of remedy."""
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        raise _explained(error.errors(), origin) from error


def _explained(faults: Sequence[ErrorDetails], origin: str) -> UserError:
    # An unknown key together with a missing one is most often one misspelt key, so report the unknown one.
    first = next((fault for fault in faults if fault["type"] == "extra_forbidden"), faults[0])
    key = _key(first)
    others = len({_key(fault) for fault in faults}) - 1
    more = f" (and {others} more)" if others else ""
    if first["type"] == "extra_forbidden":
        close = _closest(key, known_keys())
        hint = f"did you mean {close}?" if close else f"take {key} out of {origin}"
        return UserError(f"{origin} has an unknown key {key}{more}", hint)
    if first["type"] == "missing" and len(first["loc"]) <= _LEVELS:
        return UserError(f"{origin} lacks the key {key}{more}", f"add it; `git diff {origin}` shows what changed")
    # A union has one fault for each of its branches.
    reasons = dict.fromkeys(fault["msg"].removeprefix("Value error, ") for fault in faults if _key(fault) == key)
    value = "" if isinstance(first["input"], Mapping) else f" = {brief(repr(first['input']))}"
    return UserError(
        f"{key}{value} in {origin}: {'; '.join(reasons)}{more}",
        f"correct {key}; the comments in params.yaml say what it may be",
    )


_SHOWN = 200
"""Characters of a faulty value that a message shows."""
_LEVELS = 2
"""Sections and their keys; deeper parts that pydantic adds, such as the branch of a union, are not keys of the file."""


def _key(fault: ErrorDetails) -> str:
    return brief(".".join(str(part) for part in fault["loc"][:_LEVELS]))


def _closest(key: str, known: Sequence[str]) -> str | None:
    """Return the known key that was most likely meant: the present name of one that was renamed, a similar name in its
    section, or its name in another section.
    """
    if (present := renamed.present_name(key)) != key and present in known:
        return present
    section, _, name = key.rpartition(".")
    siblings = {other.rpartition(".")[2]: other for other in known if other.rpartition(".")[0] == section}
    close = [siblings[similar] for similar in difflib.get_close_matches(name, siblings, n=1, cutoff=0.5)]
    elsewhere = [other for other in known if other.endswith(f".{name}")]
    return next(iter([*close, *elsewhere, *difflib.get_close_matches(key, known, n=1, cutoff=0.9)]), None)
