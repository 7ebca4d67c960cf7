"""The families of recurrent cells, one file each. A new one is a file beside these and its name in `CellChoice`, nothing else.

Such a file holds a `CellConfig` (what users set, by which everything peculiar to the family is known) and its `Cell`:

- `convlstm`: ConvLSTM, one memory along time; what the Transferable Memory Unit was made for.
- `convgru`: ConvGRU, whose only memory is its output.
- `stlstm`: PredRNN's ST-LSTM, a memory along time and one through the layers; with ``decouple`` PredRNN-V2.
- `trajgru`: TrajGRU, a ConvGRU whose memory is sampled along flows that the network learns.
"""

from __future__ import annotations

import typing

from zoocast.nn.cells.base import Cell, CellConfig, CellOutput, Codec, GatedCell, LinearHead, Place, Shape, Skips, State
from zoocast.nn.cells.convgru import ConvGRU
from zoocast.nn.cells.convlstm import ConvLSTM
from zoocast.nn.cells.stlstm import STLSTM
from zoocast.nn.cells.trajgru import TrajGRU

__all__ = [
    "CELLS",
    "STLSTM",
    "Cell",
    "CellChoice",
    "CellConfig",
    "CellOutput",
    "Codec",
    "ConvGRU",
    "ConvLSTM",
    "GatedCell",
    "LinearHead",
    "Place",
    "Shape",
    "Skips",
    "State",
    "TrajGRU",
]

CellChoice = ConvLSTM | ConvGRU | STLSTM | TrajGRU

CELLS: tuple[type[CellConfig], ...] = typing.get_args(CellChoice)
"""Every family of cells that a predictor can be made of."""
