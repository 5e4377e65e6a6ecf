"""Exact gradients of networks that were not made for them: in bounded memory, written in place, offloaded."""
