"""A Keras model from where a user has it: a .keras file, a SavedModel folder, or a Python function."""

from __future__ import annotations

import importlib
import re
import zipfile
from pathlib import Path
from typing import Any

import keras

from converters.errors import LoadError
from converters.saved_model import model_of_saved_model

_UNKNOWN_CLASS = re.compile(r"Could not locate class '(?P<name>\w+)'")
_PYTHON_OBJECT = re.compile(r"(?P<module>[A-Za-z_][\w.]*):(?P<name>[A-Za-z_]\w*)")
_HINT = "give a .keras file, a SavedModel folder or package.module:function"
_BUILD_IT = "convert it from Python instead, as package.module:function, a function that builds or loads the model"
_KERAS_FILES = (".keras", ".h5", ".hdf5")


def load_model(source: str) -> Any:
    """The model that ``source`` names.

    Args:
        source: A path of a ``.keras`` (or ``.h5``) file or of a SavedModel folder, or ``package.module:function``, a
            function without arguments that returns a ``keras.Model``; its module is imported, so it runs code.

    Raises:
        LoadError: If there is no such thing, or it is no Keras model.
    """
    named, path = _PYTHON_OBJECT.fullmatch(source), Path(source)
    if named and not path.exists():
        return _from_python(named["module"], named["name"])
    if path.is_dir():
        return model_of_saved_model(path)
    if not path.is_file():
        raise LoadError(f"{source}: no such file; {_HINT}")
    if path.suffix.lower() not in _KERAS_FILES:
        raise LoadError(f"{source}: not a Keras file; {_HINT}")
    return _from_file(path)


def _from_file(path: Path) -> Any:
    if path.suffix.lower() == ".keras" and not zipfile.is_zipfile(path):
        raise LoadError(f"{path}: not a .keras archive, or a damaged one")
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise LoadError(f"{path}: {_why_not_loaded(error)}") from error


def _why_not_loaded(error: Exception) -> str:
    """Keras tells it in a page of configuration."""
    unknown = _UNKNOWN_CLASS.search(str(error))
    if unknown:
        return f"its class {unknown['name']} is not one of Keras' own; {_BUILD_IT}"
    if "Python lambda" in str(error):
        return f"it has a Lambda layer, whose code is not run from a file; {_BUILD_IT}"
    return f"Keras cannot load it: {str(error).strip().splitlines()[0]}"


def _from_python(module: str, name: str) -> Any:
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise LoadError(f"{module}:{name}: {error}") from error
    if not callable(function):
        raise LoadError(f"{module}:{name}: not a function that returns a keras.Model")
    try:
        model = function()
    except TypeError as error:
        raise LoadError(f"{module}:{name}: cannot be called without arguments: {error}") from error
    if not isinstance(model, keras.Model):
        raise LoadError(f"{module}:{name}: returned {type(model).__name__}, not a keras.Model")
    return model
