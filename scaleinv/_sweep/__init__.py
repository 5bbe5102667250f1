from scaleinv._sweep.run_sweep import sweep

__all__ = ["sweep"]
