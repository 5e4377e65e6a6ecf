"""What a network remembers from call to call, kept apart from the calls that are differentiated.

HiDream-O1 keeps the keys and values of its prompt, known by the prompt alone. What an ordinary run has left there was
made in inference mode; what a differentiated call would leave there holds its graph; and chunks of a batch would find
what other chunks have left.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from torch import nn

CACHES: dict[str, Callable[[], Any]] = {
    "_kv_cache_entries": list,
    "_visual_cache": type(None),
}  # by the network's name for it: makes an empty one


@contextlib.contextmanager
def forgetful(network: nn.Module) -> Iterator[None]:
    """Within it, network starts with empty caches; afterwards it remembers what it did before."""
    own = vars(network)
    before = dict(own)
    own.update({name: empty() for name, empty in CACHES.items() if name in own})
    try:
        yield
    finally:
        for name in own.keys() - before.keys():
            del own[name]
        own.update(before)
