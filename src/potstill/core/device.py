"""Which device and number format the work runs on, resolved once and recorded.

Knows nothing of models. ``auto`` is resolved at the start of a run; the resolved precision is
part of every stage's digest, so a run never changes its number format behind the user's back. The
device is not: the same stage made elsewhere differs by rounding and by dropout's draws.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from potstill.core.errors import ResourceError

Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A resolved device.

    Attributes:
        name: ``cpu``, ``cuda:0``, ``mps``.
        precision: Number format of the encoder's products; weights in training stay fp32.
    """

    name: str
    precision: Precision

    @property
    def torch(self) -> torch.device:
        """The torch device."""
        return torch.device(self.name)

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """The mixed-precision context of this device; does nothing in fp32."""
        on = self.precision == "bf16"
        with torch.autocast(self.torch.type, torch.bfloat16) if on else nullcontext():
            yield

    @contextmanager
    def casting_once(self) -> Iterator[None]:
        """Within the block, every :meth:`autocast` shares one bf16 copy of each weight.

        The weights must stay as they are. The block itself, and what goes backward in it, casts
        nothing.
        """
        # Autocast keeps its copies up to the end of the outermost block, whatever that one does.
        with torch.autocast(self.torch.type, enabled=False):
            yield


def resolve_device(
    device: str = "auto", precision: Literal["auto", "fp32", "bf16"] = "auto"
) -> Device:
    """Choose the device and the precision.

    ``auto`` takes CUDA, then Apple's GPU, then the CPU; and bf16 where the hardware multiplies it
    natively (AMX or AVX512-BF16 on x86, compute capability 8 and up on CUDA), else fp32.

    Raises:
        ResourceError: The device that was asked for is not there.
    """
    if device == "auto":
        if torch.cuda.is_available():
            device = "cuda:0"
        else:
            device = "mps" if torch.backends.mps.is_available() else "cpu"
    kind = device.split(":")[0]
    here = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    n_cards = torch.cuda.device_count() if here["cuda"] else 0
    there = [name for name, own in here.items() if own and name != "cuda"]
    there += [f"cuda:{k}" for k in range(n_cards)]
    if not here.get(kind, False) or (device.startswith("cuda:") and device not in there):
        raise ResourceError(
            f"device '{device}'",
            got="no such device on this machine",
            wanted="one of: " + ", ".join(there),
            todo="say `auto` (`device:` in a run file, else --device), or install a torch build "
            "for that device",
        )
    if precision == "auto":
        precision = "bf16" if _has_fast_bf16(device) else "fp32"
    return Device(name=device, precision=precision)


def _has_fast_bf16(device: str) -> bool:
    kind = device.split(":", maxsplit=1)[0]
    if kind == "cuda":
        return bool(torch.cuda.get_device_capability(device)[0] >= 8)
    if kind == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
    return False


def describe_hardware(device: Device) -> dict[str, str | int]:
    """What the run's record says of the machine."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        model = names[0] if names else model
    if device.torch.type == "cuda":
        model = torch.cuda.get_device_name(device.torch)
    return {
        "cpu": model,
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "device": device.name,
        "precision": device.precision,
        "torch": torch.__version__,
    }


def keep_freed_memory() -> None:
    """Ask glibc to keep freed memory for the next step instead of returning it to the system.

    A training step frees and takes the same hundreds of megabytes again; fetching them anew, page
    by page, took 7 % of a step of a small encoder. Does nothing on other systems.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        trim_threshold, mmap_threshold = -1, -3  # names of malloc.h
        mallopt(mmap_threshold, 1 << 30)
        mallopt(trim_threshold, (1 << 31) - 1)
