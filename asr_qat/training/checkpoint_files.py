"""Checkpoints as files: arrays and a description in one .npz, with digests.

A file is a zip archive without compression: one .npy member for each array, ``metadata.json``
(which has the SHA-256 of every array) and ``digest`` (the SHA-256 of ``metadata.json``). It appears
under its name only when all of it is on the disk. `numpy.load` opens it, too.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

FOLDER = "checkpoints"  # of a run
_NAME = re.compile(r"step-(\d+)\.npz")


class CheckpointError(ValueError):
    """A checkpoint that cannot be written, read or gone on from."""


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """What a file holds."""

    path: Path
    metadata: dict[str, Any]  # JSON-ready
    arrays: dict[str, np.ndarray]


def checkpoint_path(folder: Path, step: int) -> Path:
    """Where the checkpoint after so many steps is."""
    return folder / f"step-{step:09d}.npz"


def checkpoint_paths(folder: Path) -> list[Path]:
    """The checkpoints in a folder, oldest first."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))


def step_of(path: Path) -> int:
    """The number of steps in a checkpoint's name."""
    match = _NAME.fullmatch(path.name)
    if match is None:
        raise CheckpointError(f"{path}: expected a name such as step-000000500.npz")
    return int(match[1])


def write_checkpoint(
    path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, Any]
) -> None:
    """Writes a checkpoint; there is either all of it under its name afterwards, or nothing.

    Args:
        path: `checkpoint_path`; its folder is made if missing.
        arrays: what is kept, by name.
        metadata: JSON-ready.

    Raises:
        CheckpointError: if the disk is full or not writable.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            _write_archive(file, arrays, metadata)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        _sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise CheckpointError(
            f"{path}: the checkpoint cannot be written: {error.strerror or error}; "
            f"{_still_there(path.parent)}free some space, then give the same command again"
        ) from error


def _still_there(folder: Path) -> str:
    paths = checkpoint_paths(folder)
    if not paths:
        return "there is no earlier one; "
    return f"that of step {step_of(paths[-1])} is intact ({paths[-1]}); "


def _write_archive(file, arrays, metadata):
    entries = []
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for number, (name, array) in enumerate(arrays.items()):
            array = np.asarray(array)
            member = f"{number:05d}.npy"
            # Without a time stamp, so that equal states are equal files.
            with archive.open(zipfile.ZipInfo(member), "w", force_zip64=True) as out:
                np.lib.format.write_array(out, array, allow_pickle=False)
            entries.append({"name": name, "member": member, **_description(array)})
        document = json.dumps({**metadata, "arrays": entries}, indent=1).encode()
        archive.writestr(zipfile.ZipInfo("metadata.json"), document)
        archive.writestr(zipfile.ZipInfo("digest"), hashlib.sha256(document).hexdigest())


def _description(array: np.ndarray) -> dict[str, Any]:
    content = np.ascontiguousarray(array).tobytes()
    return {
        "shape": list(array.shape),
        "dtype": str(array.dtype),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def _sync_folder(folder: Path) -> None:
    """Makes a rename outlive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_metadata(path: Path) -> dict[str, Any]:
    """A checkpoint's description, checked; its arrays are not read.

    Raises:
        CheckpointError: if the file is no whole checkpoint.
    """
    with _opened(path) as archive:
        return _metadata(path, archive)


def read_checkpoint(path: Path) -> Checkpoint:
    """Reads a checkpoint and checks every digest.

    Raises:
        CheckpointError: if the file is no whole checkpoint, or a bit of it has changed.
    """
    arrays = {}
    with _opened(path) as archive:
        metadata = _metadata(path, archive)
        for entry in metadata.pop("arrays"):
            with archive.open(entry["member"]) as member:
                array = np.lib.format.read_array(member, allow_pickle=False)
            wanted = {key: entry[key] for key in ("shape", "dtype", "sha256")}
            if _description(array) != wanted:
                raise CheckpointError(f"{path}: {entry['name']} is not what was written")
            arrays[entry["name"]] = array
    return Checkpoint(path, metadata, arrays)


@contextlib.contextmanager
def _opened(path):
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except CheckpointError:
        raise
    # What zipfile and NumPy raise for a file that is cut off or altered.
    except (OSError, zipfile.BadZipFile, KeyError, ValueError, EOFError, NotImplementedError) as e:
        raise CheckpointError(f"{path}: not a whole checkpoint: {e}") from e


def _metadata(path, archive):
    document = archive.read("metadata.json")
    if hashlib.sha256(document).hexdigest().encode() != archive.read("digest"):
        raise CheckpointError(f"{path}: metadata.json is not what was written")
    return json.loads(document)


def newest_good(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that is whole, or None; says which ones are not."""
    for path in reversed(checkpoint_paths(folder)):
        try:
            return read_checkpoint(path)
        except CheckpointError as error:
            logging.warning("%s; going back to the checkpoint before it", error)
    return None


def remove_old(folder: Path, keep: int) -> None:
    """Leaves the newest ``keep`` checkpoints, and nothing half-written."""
    paths = checkpoint_paths(folder)
    for path in [*paths[: max(len(paths) - keep, 0)], *folder.glob(".step-*.partial")]:
        path.unlink(missing_ok=True)
