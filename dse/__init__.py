"""The optimizer and everything a user touches. Imports models, costs, optax and orbax."""
