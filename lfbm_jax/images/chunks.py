"""Work on many images a chunk at a time, so that memory does not grow with their number."""

from collections.abc import Iterator

from tqdm import tqdm


def chunks(count: int, size: int, what: str = "") -> Iterator[slice]:
    """Yields slices that cover 0, 1, ..., count - 1 in order, `size` of them at a time.

    Args:
        count: how many images there are.
        size: how many a chunk holds; the last one may hold fewer.
        what: what is done with them, for a progress bar; "" for none.
    """
    with tqdm(
        total=count, desc=what, unit="image", delay=3, leave=False, disable=not what
    ) as bar:
        for begin in range(0, count, size):
            chunk = slice(begin, min(begin + size, count))
            yield chunk
            bar.update(chunk.stop - chunk.start)
