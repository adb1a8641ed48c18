"""Networks with relaxed widths, and how a network becomes a workload. Imports costs and flax."""
