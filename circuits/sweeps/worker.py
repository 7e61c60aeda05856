"""A process that carries out one cell after another, as lines of JSON on its input tell it.

    python -m circuits.sweeps.worker

For every line it answers with one, on its output. When its input is closed it ends at once,
whatever it is doing: so it outlives no sweep, not even one that was killed.
"""

from __future__ import annotations

import json
import os
import queue
import resource
import sys
import threading
import traceback
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from tasks.errors import CircuitsError

CLOSED = 3
"""The exit code after the end of the input."""


def main() -> None:
    """Answer until the input ends."""
    asked: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_listen, args=(asked,), daemon=True).start()
    # What libraries print is no answer.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    while True:
        answer = answered(json.loads(asked.get()))
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _listen(asked: queue.Queue[str]) -> None:
    for line in sys.stdin:
        asked.put(line)
    os._exit(CLOSED)


def answered(order: dict[str, Any]) -> dict[str, Any]:
    """Carry out a cell: why it failed, empty where it did not, and the most memory in bytes."""
    try:
        _carry_out(order)
        fault = ""
    except CircuitsError as error:
        fault = str(error)
    except MemoryError as error:
        fault = f"out of memory ({error})"
    except Exception as error:
        traceback.print_exc()
        fault = f"a fault in the program: {type(error).__name__}: {error}"
    unit = 1 if sys.platform == "darwin" else 1024
    return {"fault": fault, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}


def _carry_out(order: dict[str, Any]) -> None:
    import torch

    from circuits.config import Config
    from circuits.models import computing_on
    from circuits.sweeps.cell import carry_out

    if "OMP_NUM_THREADS" not in os.environ:
        # The number of threads changes the last bits, so it must not depend on how many run.
        torch.set_num_threads(1)
    device = order["device"]
    with nullcontext() if device is None else computing_on(device):
        carry_out(Config(**order["config"]), Path(order["folder"]), order["evaluate"])


if __name__ == "__main__":
    main()
