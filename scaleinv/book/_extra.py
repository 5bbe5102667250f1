"""What to install when a package that only the book needs is missing."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def book_dependencies() -> Iterator[None]:
    """Name the way out when an import inside the block fails.

    Raises:
        ModuleNotFoundError: if a package is not installed; the message says what to install.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        message = f'the helpers of the book need the package {error.name}; install it by: pip install "scaleinv[book]"'
        raise ModuleNotFoundError(message, name=error.name) from error
