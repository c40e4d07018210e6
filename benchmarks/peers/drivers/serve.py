"""How a driver is spoken to.

It is run as `python driver.py`, reads one line of JSON from its standard input (scenario, place, durability, parameters)
and writes one line to its standard output: figures, samples, and the durability that its connection really has.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from measures import SCENARIOS
from peer import Cannot, Queue

Make = Callable[[str, str], Queue]
Measure = Callable[..., dict[str, Any]]


def serve(make: Make, scenarios: Mapping[str, Measure] = SCENARIOS) -> None:
    """Do what the command line or the one line on the standard input says, and leave without waiting for any thread."""
    if sys.argv[1:2] == ["produce"]:
        _produce(make, sys.argv[2], sys.argv[3], sys.stdin)
    else:
        print(json.dumps(_answer(make, scenarios, json.loads(sys.stdin.readline()))), flush=True)
    sys.stderr.flush()
    os._exit(0)


def _produce(make: Make, place: str, durability: str, lines: Iterable[str]) -> None:
    """Enqueue a job for each line."""
    peer = make(place, durability)
    for _ in lines:
        peer.put("arrive", time.monotonic())


def _answer(make: Make, scenarios: Mapping[str, Measure], request: dict[str, Any]) -> dict[str, Any]:
    place, durability = request["place"], request["durability"]
    try:
        peer = make(place, durability)
        figures = scenarios[request["scenario"]](peer, **request["parameters"])
        level = peer.level()
    except Cannot as no:
        return {"cannot": str(no)}
    except Exception as error:  # noqa: BLE001 – whatever a peer's code raises is told to the runner, which shows it
        traceback.print_exc()
        return {"failed": f"{type(error).__name__}: {error}"}
    return {"samples": figures.pop("samples", []), "figures": figures, "level": level, "note": peer.note}
