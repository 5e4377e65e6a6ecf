"""The sockets of this pack."""

from comfy_api.v0_0_2 import io

Features = io.Custom("NOISE_OPTIMIZE_FEATURES")
Objective = io.Custom("NOISE_OPTIMIZE_OBJECTIVE")
