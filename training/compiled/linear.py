# SPDX-License-Identifier: Apache-2.0
"""A linear layer with compiled forward and backward: a convolution with one offset."""

from __future__ import annotations

from torch import Tensor

from training.compiled.convolution import Convolution
from training.compiled.library import Precision


def linear(
    x: Tensor, weight: Tensor, bias: Tensor | None, precision: Precision = "float32"
) -> Tensor:
    """x: [..., in], weight: [out, in], bias: [out], float32. Returns [..., out].

    Raises ConfigError for other dtypes or a precision this CPU lacks.
    """
    rows = x if x.dim() == 2 else x.reshape(-1, x.shape[-1])
    out: Tensor = Convolution.apply(  # type: ignore[no-untyped-call]
        rows, weight[:, None], bias, None, precision
    )
    return out if x.dim() == 2 else out.view(*x.shape[:-1], len(weight))
