"""Train a target: from scratch, finetuned, anchored to a source (L2-SP), or with TMU against a memory bank."""
