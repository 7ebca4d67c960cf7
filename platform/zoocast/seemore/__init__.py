"""SeeMore (2024): bidirectional distillation, the level-specific meta-adapter, and the two stages that train with them."""
