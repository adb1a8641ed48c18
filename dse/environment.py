"""On what a run was made: versions, device and threads, as far as bit-identity depends on them."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from typing import Any

_PACKAGES = (
    "narrows",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "numpy",
    "scipy",
    "scikit-learn",
)
_VARIABLES = ("XLA_FLAGS", "JAX_PLATFORMS", "JAX_ENABLE_X64", "OMP_NUM_THREADS")


def read_environment() -> dict[str, Any]:
    """Versions, machine type, threads, and the device jax computes on (imports jax)."""
    import jax

    device = jax.devices()[0]
    return {
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in _PACKAGES},
        "system": platform.system(),
        "machine": platform.machine(),
        "processor": _processor(),
        "threads": _threads(),
        "device": {"platform": device.platform, "kind": device.device_kind},
        "devices": jax.device_count(),
        "variables": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
    }


def _processor() -> str:
    """The processor's model name, where the system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [
                line.partition(":")[2].strip() for line in file if line.startswith("model name")
            ]
    except OSError:
        names = []
    return names[0] if names else platform.processor()


def _threads() -> int | None:
    """Processors this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    return os.cpu_count() if affinity is None else len(affinity(0))
