"""Map a function over items in worker threads, a bounded number ahead of the consumer."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def prefetched(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """Yield function(item) for each item, in order, computed in threads at most `workers` + 1 items ahead.

    Items are taken in the caller's thread. An exception of `function` is raised in place of its result. From Python
    3.14 on, `Executor.map` with `buffersize` does the same.
    """
    with ThreadPoolExecutor(workers, thread_name_prefix="prefetch") as pool:
        pending: deque[Future[Result]] = deque()
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
