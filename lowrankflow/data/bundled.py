"""The data sets that come with scikit-learn, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from .. import validation
from .values import DataSet

__all__ = ["available", "load"]


class _Bundled(NamedTuple):
    load: Callable[[Any], tuple[Any, Any]]  #: sklearn.datasets -> inputs, targets or None
    shapes: str
    about: str

    @property
    def description(self) -> str:
        return f"{self.shapes}: {self.about}"


def _features(loader: str) -> Callable[[Any], tuple[Any, Any]]:
    return lambda datasets: (getattr(datasets, loader)().data, None)


def _regression(loader: str) -> Callable[[Any], tuple[Any, Any]]:
    return lambda datasets: getattr(datasets, loader)(return_X_y=True)


def _patches(file: str) -> Callable[[Any], tuple[Any, Any]]:
    """Grey values of a sample image in 8 x 8 squares that do not overlap; incomplete ones at the edge are left out."""

    def load(datasets: Any) -> tuple[Any, Any]:
        grey = datasets.load_sample_image(file).mean(axis=2)
        h, w = (size // 8 for size in grey.shape)
        return grey[: 8 * h, : 8 * w].reshape(h, 8, w, 8).swapaxes(1, 2).reshape(h * w, 64), None

    return load


_IMAGE = "grey 8 x 8 patches of a photograph, the sample image {} of scikit-learn (CC BY 2.0)"
_BUNDLED = {
    "digits": _Bundled(
        _features("load_digits"), "1797 x 64, autoencoding",
        "8 x 8 images of handwritten digits (E. Alpaydin, UCI, Optical Recognition of Handwritten Digits, test set)"),
    "diabetes": _Bundled(
        _regression("load_diabetes"), "442 x 10 -> 1, regression",
        "progression of diabetes after a year (Efron, Hastie, Johnstone, Tibshirani 2004), features as standardised"
        " by scikit-learn"),
    "linnerud": _Bundled(
        _regression("load_linnerud"), "20 x 3 -> 3, regression",
        "three exercises -> weight, waist and pulse of twenty men (A. C. Linnerud)"),
    "breast_cancer": _Bundled(
        _features("load_breast_cancer"), "569 x 30, autoencoding",
        "cell nuclei (Wolberg, Street, Mangasarian, UCI, Breast Cancer Wisconsin, Diagnostic)"),
    "iris": _Bundled(
        _features("load_iris"), "150 x 4, autoencoding", "lengths and widths of iris flowers (Fisher 1936)"),
    "wine": _Bundled(
        _features("load_wine"), "178 x 13, autoencoding", "chemical analysis of wines (UCI, Wine Recognition)"),
    "china": _Bundled(_patches("china.jpg"), "4240 x 64, autoencoding", _IMAGE.format("china.jpg")),
    "flower": _Bundled(_patches("flower.jpg"), "4240 x 64, autoencoding", _IMAGE.format("flower.jpg")),
}  # fmt: skip


def available() -> dict[str, str]:
    """Return the names of the bundled data sets, each with one line: shape, task, source. Nothing is loaded.

    Examples
    --------
    >>> available()["iris"]
    '150 x 4, autoencoding: lengths and widths of iris flowers (Fisher 1936)'
    """
    return {name: entry.description for name, entry in _BUNDLED.items()}


def load(name: str) -> DataSet:
    """Return a bundled data set, raw, from scikit-learn; nothing is downloaded.

    Parameters
    ----------
    name : str
        A key of `available`.

    Returns
    -------
    DataSet

    Raises
    ------
    ValueError
        If the name is unknown.
    ImportError
        If scikit-learn is not installed.
    """
    entry = _BUNDLED[validation.require_choice("name", name, _BUNDLED)]
    try:
        from sklearn import datasets  # type: ignore[import-untyped, unused-ignore]

        inputs, targets = entry.load(datasets)
    except ImportError:  # scikit-learn, or Pillow for the images
        raise ImportError(
            f'The data set {name} needs scikit-learn and Pillow. Run: pip install "lowrankflow[data]"'
        ) from None
    return DataSet(name, inputs, targets, entry.description)
