"""The methods of transfer that there are. A new one is one file here, with a subclass of `TransferMethod`, and its name below."""

from zoocast.transfer.bss import BSS
from zoocast.transfer.delta import Delta
from zoocast.transfer.finetune import Finetune
from zoocast.transfer.frames import FrameDistillation
from zoocast.transfer.freeze import Freeze
from zoocast.transfer.joint import Joint
from zoocast.transfer.l2sp import L2SP
from zoocast.transfer.llrd import LayerDecay
from zoocast.transfer.scratch import Scratch
from zoocast.transfer.soup import Soup
from zoocast.transfer.tmu import Transfer

__all__ = ["Method"]

Method = Scratch | Finetune | L2SP | Transfer | Soup | Delta | LayerDecay | Freeze | BSS | FrameDistillation | Joint
