"""Two gradients side by side: is one a multiple of the other, or are examples weighted in another way?

Begin with ``compare``: ``compare_gradients`` itself.  ``rehearsal`` runs a step of the user's so that nothing of it
remains, ``sources`` reads mappings and files, and ``names`` matches names of wrapped models.  ``row`` compares two
tensors; ``verdict`` says what all rows have in common, with the ``factors`` as people write them; ``seen`` is what an
optimizer sees of it, and ``result`` prints.
"""

from scaleinv._gradients.compare import compare_gradients
from scaleinv._gradients.result import GradientComparison
from scaleinv._gradients.row import ComparedGradient
from scaleinv._gradients.verdict import Verdict

__all__ = ["ComparedGradient", "GradientComparison", "Verdict", "compare_gradients"]
