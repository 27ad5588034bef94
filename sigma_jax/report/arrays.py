"""Trajectories as labelled arrays: xarray datasets, kept as NetCDF."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import xarray as xr

from .._files import write_whole


def labelled_dataset(
    variables: Mapping[str, tuple[tuple[str, ...], np.ndarray, str]],
    coordinates: Mapping[str, np.ndarray | list[str]],
    attributes: Mapping[str, str],
) -> xr.Dataset:
    """Make a dataset from {name: (dimensions, array, description with unit)}."""
    data = {
        name: xr.DataArray(np.asarray(array), dims=dimensions, attrs={"long_name": description})
        for name, (dimensions, array, description) in variables.items()
    }
    return xr.Dataset(data, coords=dict(coordinates), attrs=dict(attributes))


def write_netcdf(path: str | Path, dataset: xr.Dataset) -> Path:
    """Write a dataset to `path` as NetCDF 3, which everything reads, whole or not at all."""
    return write_whole(path, lambda partial: dataset.to_netcdf(partial, engine="scipy"))
