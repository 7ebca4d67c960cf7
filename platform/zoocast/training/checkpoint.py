"""Full-state checkpoints: everything that decides how training goes on, published whole or not at all.

Tensors are safetensors, the rest is JSON with a checksum; nothing is ever unpickled.
"""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from zoocast.errors import InfrastructureError, IntegrityError
from zoocast.store.files import own_file, publish, sha256_file, temporary_name
from zoocast.store.sealed import read_sealed, write_sealed
from zoocast.training.updater import Updater

__all__ = ["TrainState", "read_checked"]


class TrainState:
    """All that decides how training goes on: weights, the updater's state, random state, best weights, counters, losses to log.

    Without a directory it is kept in memory alone.
    """

    def __init__(self, updater: Updater, directory: Path | None, identity: str) -> None:
        self.updater = updater
        self.objective = updater.objective
        self.iteration = 0
        self.seconds = 0.0
        self.best_error = float("inf")
        self.best_iteration = 0
        self.best: dict[str, Tensor] = {}
        # The terms of each update since the last validation, still on the device: to read a number is to wait for the GPU.
        self.window: dict[str, list[Tensor]] = {}
        self.folder = None if directory is None else directory / "checkpoints"
        self.identity = identity

    def keep_if_best(self, error: float) -> None:
        if error < self.best_error:  # never for a diverged network, whose error is infinite
            self.best_error, self.best_iteration = error, self.iteration
            # A copy, for the updates to come change the weights in place; on the CPU, for a GPU's memory is short.
            self.best = {k: v.detach().cpu().clone() for k, v in self.objective.state_dict().items()}

    def is_finite(self) -> bool:
        """Whether training can go on from here: no weight and no moment is NaN or infinite."""
        held = [*self.objective.state_dict().values(), *self.updater.state().values()]
        return all(bool(tensor.isfinite().all()) for tensor in held)

    def save(self) -> None:
        """Publish ``checkpoints/ITERATION`` whole or not at all, then drop older ones."""
        if self.folder is None:
            return
        final = self.folder / f"{self.iteration:08d}"
        # A name of its own for each writer, and a dot, by which `_found` does not see it.
        partial = temporary_name(final)
        tensors = {f"objective.{k}": v for k, v in self.objective.state_dict().items()}
        tensors |= {f"best.{k}": v for k, v in self.best.items()}
        tensors |= {f"updater.{k}": v for k, v in self.updater.state().items()}
        tensors |= {f"window.{k}": torch.stack(values) for k, values in self.window.items()}
        # Order and masks are functions of the iteration; this is for objectives that draw by themselves, as dropout does.
        tensors["random.torch"] = torch.get_rng_state()
        if torch.cuda.is_available():
            tensors["random.cuda"] = torch.cuda.get_rng_state()
        try:
            self.folder.mkdir(exist_ok=True)  # never its parents: a step that was published meanwhile must not come back
            partial.mkdir()
            save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, partial / "state.safetensors")
            record = {
                "iteration": self.iteration,
                "seconds": self.seconds,
                "best_error": self.best_error if self.best else None,  # infinite at first, which JSON cannot hold
                "best_iteration": self.best_iteration,
                "identity": self.identity,
                "sha256": sha256_file(partial / "state.safetensors"),
            }
            write_sealed(partial / "state.json", record)
            if not final.exists():  # else another attempt, at the same iteration with the same seed, has written the same bits
                publish(partial, final)
        except (OSError, SafetensorError) as error:
            raise InfrastructureError(f"cannot write checkpoint {final}: {error}; free some space and run again") from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        self.drop_older()  # only now: at every moment one whole checkpoint is there

    def drop_older(self) -> None:
        """Leave the newest checkpoint alone, also of what a kill in the midst of this has left."""
        found = [] if self.folder is None else self._found(self.folder)
        for old in found[-1].parent.glob("[0-9]*") if found else ():
            if old.name < found[-1].name:
                # Renamed first: half of it is no checkpoint, and no part of the step's result.
                gone = temporary_name(old)
                with contextlib.suppress(OSError):
                    old.rename(gone)
                shutil.rmtree(gone, ignore_errors=True)

    def restore(self, device: str) -> bool:
        """Continue from the newest checkpoint, if there is one.

        Raises:
            IntegrityError: it is damaged, or belongs to another configuration.
        """
        # A kill between writing a checkpoint and dropping the one before leaves two, and the names sort by iteration.
        found = [] if self.folder is None else self._found(self.folder)
        if not found:
            return False
        path = found[-1]
        record = read_checked(path)  # before anything is loaded: safetensors itself notices hardly any flipped bit
        if record["identity"] != self.identity:
            raise IntegrityError(
                f"checkpoint {path} belongs to another configuration; delete that folder to start this step anew"
            )
        self._load(load_file(path / "state.safetensors"), device)
        self.iteration, self.seconds = record["iteration"], record["seconds"]
        if record["best_error"] is not None:
            self.best_error, self.best_iteration = record["best_error"], record["best_iteration"]
        return True

    def _load(self, tensors: dict[str, Tensor], device: str) -> None:
        def under(prefix: str) -> dict[str, Tensor]:
            return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

        self.objective.load_state_dict(under("objective."))
        self.best = under("best.")
        self.updater.load(under("updater."))
        self.window = {k: list(values.to(device).unbind()) for k, values in under("window.").items()}
        # Building the network again has drawn from the generator.
        torch.set_rng_state(tensors["random.torch"])
        if "random.cuda" in tensors and device.startswith("cuda"):
            torch.cuda.set_rng_state(tensors["random.cuda"])

    @staticmethod
    def _found(folder: Path) -> list[Path]:
        return sorted(p for p in folder.glob("[0-9]*") if (p / "state.json").exists())


def read_checked(path: Path) -> dict[str, Any]:
    """What `TrainState.save` wrote down beside the tensors of checkpoint `path`, after all checksums were compared.

    Raises:
        IntegrityError: the checkpoint is damaged.
    """
    record: dict[str, Any] = read_sealed(path / "state.json", dict, remedy=f"delete {path} to start this step anew")
    try:
        whole = sha256_file(own_file(path / "state.safetensors")) == record["sha256"]
    except OSError as error:
        raise IntegrityError(f"checkpoint {path} cannot be read ({error}); delete that folder to start this step anew") from None
    if not whole:
        raise IntegrityError(f"checkpoint {path} does not match its checksum; delete that folder to start this step anew")
    return record
