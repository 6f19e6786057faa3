"""Splits the work on many images into chunks, so memory does not grow with their number."""

from collections.abc import Iterator

from lfbm_jax.files import terminal


def chunks(count: int, size: int, what: str = "") -> Iterator[slice]:
    """Yields slices that cover 0, 1, ..., count - 1 in order, `size` of them at a time.

    Args:
        count: the number of images.
        size: images per chunk; the last chunk may hold fewer.
        what: the text of a progress bar, such as "scoring"; "" for no bar.
    """
    with terminal.bar(
        total=count, desc=what, unit="image", delay=3, leave=False, disable=not what
    ) as bar:
        for begin in range(0, count, size):
            chunk = slice(begin, min(begin + size, count))
            yield chunk
            bar.update(chunk.stop - chunk.start)
