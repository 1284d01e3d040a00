"""CLIP in JAX: convert, measure and adapt it, and take it home again to PyTorch.

The public names are listed in `__init__.pyi`; each is imported when it is first used, so that
`clipjax --help` need not wait for jax.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
