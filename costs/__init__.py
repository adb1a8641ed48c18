"""What a workload costs on a chip: pure functions of dataclasses. Imports jax, numpy, scipy."""
