"""Gradients made of builtin TFLite ops.

TensorFlow differentiates many operations into one fused operation (``ReluGrad``, ``StridedSliceGrad``) that only
its own kernels know. Inside `builtin_gradients` an operation is marked, as it is created, with a gradient written
in operations that every TFLite runtime has. Only symbolic ``tf.gradients`` looks at the mark; a tape does not.
"""

from converters.gradients import elementwise, linear, shape, window
from converters.gradients.linear import dense
from converters.gradients.registry import builtin_gradients

__all__ = ["builtin_gradients", "dense", "elementwise", "linear", "shape", "window"]
