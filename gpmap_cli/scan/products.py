"""Sums over samples of products of genotypes and a weight, as matrix products in 8-bit integers or floating point.

For sets S and T of loci and a weight w of each sample, sum_n w_n prod_S x_n prod_T x_n is an entry of (P_S w)' P_T with
the products of genotypes P. Genotypes -1/+1 make every such product -1 or +1, which 8-bit integers hold: weights are
written as q = 128 q_1 + q_0 (or three digits), every digit within -127..127, and sums are exact integers. A weight w is
rounded to a multiple of max|w| / 16319, which moves a sum by about sqrt(N / 12) times that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from gpmap_cli.dataset.coding import CodedGenotypes

Arithmetic = Literal["int8", "float32", "float64"]
DTYPES = {"int8": torch.int8, "float32": torch.float32, "float64": torch.float64}

_BASE = 128
_ROUNDING = 2e-4  # of a standard deviation: with more digits where two round by more
_MULTIPLE = 8  # samples are padded to a multiple of it, as accelerators demand
_BLOCK_BYTES = 2**26
_MOST_SAMPLES = 2**31 // 128  # whose sum of digits times +-1 is surely within 32 bits
_SMALL = (256, 8192, 3)  # a product to choose by: rows, samples, turns


def locus_major(genotypes: CodedGenotypes, arithmetic: Arithmetic, device: str) -> torch.Tensor:
    """Coded genotypes (L, N') on the device, N' samples with zeros at the end up to a multiple of 8."""
    dtype = DTYPES[arithmetic]
    num_samples, num_loci = len(genotypes), genotypes.num_loci
    found = torch.zeros(num_loci, padded(num_samples), dtype=dtype, device=device)
    step = max(1, _BLOCK_BYTES // (8 * max(1, num_loci)))
    as_read = np.float64 if arithmetic == "float64" else np.float32
    for start in range(0, num_samples, step):
        rows = slice(start, min(start + step, num_samples))
        block = torch.from_numpy(genotypes.rows(rows, as_read)).to(device)
        found[:, rows] = block.T.to(dtype)
    return found


def padded(num_samples: int) -> int:
    """The next multiple of 8."""
    return -(-num_samples // _MULTIPLE) * _MULTIPLE


@dataclass(frozen=True)
class Weights:
    """The weight of every sample, as the operands have it: w = scale sum_d base^d digits_d.

    digits: (D, N') with the lowest one first, zero where samples are padded.
    """

    digits: torch.Tensor
    scale: float

    @classmethod
    def of(
        cls, values: NDArray[np.float64], arithmetic: Arithmetic, device: str, num_digits: int | None = None
    ) -> Weights:
        """Weights (N,) rounded to what the arithmetic holds; num_digits: for more than a scan needs."""
        wide = np.zeros(padded(len(values)))
        wide[: len(values)] = values
        if arithmetic != "int8":
            return cls(torch.from_numpy(wide).to(DTYPES[arithmetic])[None].to(device), 1.0)
        if np.isin(values, (0.0, 1.0)).all():
            return cls(torch.from_numpy(wide.astype(np.int8))[None].to(device), 1.0)
        largest = float(np.abs(values).max())
        if num_digits is None:
            std = float(np.sqrt((values**2).sum() / np.count_nonzero(values)))
            num_digits = 2 if largest / _most(2) / np.sqrt(12) <= _ROUNDING * std else 3
        scale = largest / _most(num_digits)
        left, digits = np.rint(wide / scale).astype(np.int64), []
        for _ in range(num_digits - 1):
            upper = (left + _BASE // 2) // _BASE
            digits.append(left - _BASE * upper)
            left = upper
        digits.append(left)
        return cls(torch.from_numpy(np.array(digits, dtype=np.int8)).to(device), scale)

    def combined(self, sums: torch.Tensor) -> torch.Tensor:
        """Exact sums (D, ...) of the digits as those of the weight, in float64."""
        powers = float(_BASE) ** torch.arange(len(self.digits), dtype=torch.float64, device=sums.device)
        return self.scale * torch.tensordot(powers, sums.double(), dims=1)

    def rounded(self, num_samples: int) -> NDArray[np.float64]:
        """The weights (N,) that are computed with."""
        powers = float(_BASE) ** np.arange(len(self.digits))
        return np.asarray(self.scale * (powers @ self.digits[:, :num_samples].cpu().double().numpy()))


def _most(num_digits: int) -> int:
    """The largest number that so many digits write."""
    return 127 * _BASE ** (num_digits - 1) + sum((_BASE // 2 - 1) * _BASE**d for d in range(num_digits - 1))


class Accumulator:
    """Sums of products over chunks of samples: of the digits of some weights, times a weighted and b plain sets."""

    def __init__(self, weights: Sequence[Weights]) -> None:
        self._weights = weights
        self._sum: torch.Tensor | None = None

    def add(self, weighted: torch.Tensor, plain: torch.Tensor) -> None:
        """weighted: (D a, chunk), D the digits of all weights; plain: (b, chunk)."""
        product = times_transposed(weighted, plain)
        if self._sum is None:
            self._sum = product
        else:
            self._sum += product

    def totals(self) -> Iterator[torch.Tensor]:
        """The sums (a, b) of each weight, in float32 or, where products were in float64, in that."""
        assert self._sum is not None
        num_digits = sum(len(weights.digits) for weights in self._weights)
        parts = self._sum.view(num_digits, -1, self._sum.shape[1])
        at = 0
        for weights in self._weights:
            own = parts[at : at + len(weights.digits)]
            at += len(weights.digits)
            found = own[-1] if own.dtype.is_floating_point else own[-1].to(torch.float32)
            for part in reversed(own[:-1].unbind()):
                found.mul_(float(_BASE)).add_(part)
            yield found.mul_(weights.scale) if weights.scale != 1.0 else found


def times_transposed(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """left (a, n) times right (b, n)': int32 of int8, else in their own type."""
    if left.dtype != torch.int8:
        return left @ right.T
    if left.device.type == "cpu":
        return torch._int_mm(left, right.T)
    # Accelerators want at least 17 rows, and multiples of 8 of everything.
    rows, columns = max(24, padded(len(left))), padded(len(right))
    wide = torch.nn.functional.pad(left, (0, 0, 0, rows - len(left)))
    other = torch.nn.functional.pad(right, (0, 0, 0, columns - len(right)))
    return torch._int_mm(wide, other.T)[: len(left), : len(right)].contiguous()


def choose_arithmetic(genotypes: CodedGenotypes, device: str) -> Arithmetic:
    """8-bit integers where genotypes are -1/+1 and such products are right and fast here, else float32."""
    too_many = len(genotypes) > _MOST_SAMPLES
    if too_many or not genotypes.is_plus_minus_one or not int8_is_right(device):
        return "float32"
    kinds: tuple[Arithmetic, Arithmetic] = ("int8", "float32")
    in_integers, floating = (peak(kind, device, *_SMALL) for kind in kinds)
    return "int8" if in_integers / 2 > floating else "float32"  # most weights have two digits


def int8_is_right(device: str) -> bool:
    """Whether 8-bit products exist here and are exact: some processors saturate sums of two products at 16 bits."""
    try:
        left = torch.full((32, 64), 127, dtype=torch.int8, device=device)
        right = torch.full((16, 64), -127, dtype=torch.int8, device=device)
        found = times_transposed(left, right)
        return bool((found == -127 * 127 * 64).all()) and bool((times_transposed(-left, right) == -found).all())
    except (RuntimeError, AttributeError):
        return False


def peak(arithmetic: Arithmetic, device: str, size: int = 1024, chunk: int = 16_384, turns: int = 4) -> float:
    """Operations per second, multiplications and additions, of a large matrix product here: the fastest of some."""
    left = torch.ones(size, chunk, dtype=DTYPES[arithmetic], device=device)
    right = torch.ones(size, chunk, dtype=DTYPES[arithmetic], device=device)
    seconds = [timed(lambda: times_transposed(left, right), device) for _ in range(turns)]
    return 2.0 * size**2 * chunk / min(seconds)


def timed(work: Callable[[], object], device: str) -> float:
    """Seconds that the work takes on the device."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    began = time.perf_counter()
    work()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - began
