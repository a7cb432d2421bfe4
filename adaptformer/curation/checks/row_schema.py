"""The schema of single rows of a manifest."""

from __future__ import annotations

import pandas as pd
import pandera.pandas as pa

from adaptformer.data.image_facts import MIN_SIDE
from adaptformer.data.layout import SPLITS

SCHEMA = pa.DataFrameSchema(
    {
        "path": pa.Column(str, pa.Check.str_length(min_value=1), unique=True),
        "label": pa.Column(str, pa.Check.str_matches(r"^\S(.*\S)?$")),
        "split": pa.Column(str, pa.Check.isin(SPLITS)),
        "width": pa.Column(int, pa.Check.ge(MIN_SIDE)),
        "height": pa.Column(int, pa.Check.ge(MIN_SIDE)),
        "mode": pa.Column(str, pa.Check.str_length(min_value=1)),
        "bytes": pa.Column(int, pa.Check.gt(0)),
        "sha256": pa.Column(str, pa.Check.str_matches(r"^[0-9a-f]{64}$")),
    },
    strict=True,
)


def failures(manifest: pd.DataFrame) -> pd.DataFrame | None:
    """Return pandera's table of failure cases, or None if every row is valid."""
    try:
        SCHEMA.validate(manifest, lazy=True)
    except pa.errors.SchemaErrors as errors:
        cases: pd.DataFrame = errors.failure_cases
        return cases
    return None
