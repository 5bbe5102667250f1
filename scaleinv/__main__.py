"""``python -m scaleinv``."""

from scaleinv._cli import main, run

__all__ = ["main"]

if __name__ == "__main__":
    run("python -m scaleinv")
