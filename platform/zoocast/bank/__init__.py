"""The memory bank: what frozen sources remember of the target's clips, stored or computed online, and how they are distilled."""
