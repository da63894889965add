"""Arrays and networks of other libraries: pandas, scipy.sparse, torch, JAX, CuPy.

Whoever hands over a tensor has imported its library, so nothing is imported here but by `to_torch`. What is returned shares no
memory with a tensor, whose training would change it.

- `arrays`: an array of another library as numpy's.
- `layers`: named or listed arrays as the layers of a chain, weights and biases; what is none is named.
- `modules`: modules of torch, and back.
- `trees`: parameter trees of JAX libraries, and back.
"""

from .arrays import as_array, as_evaluated, is_foreign, is_tensor, precision, tensors_may_come
from .layers import Layer, from_listed, from_named
from .modules import from_torch, to_torch
from .trees import from_jax, to_jax

__all__ = [
    "Layer",
    "as_array",
    "as_evaluated",
    "from_jax",
    "from_listed",
    "from_named",
    "from_torch",
    "is_foreign",
    "is_tensor",
    "precision",
    "tensors_may_come",
    "to_jax",
    "to_torch",
]
