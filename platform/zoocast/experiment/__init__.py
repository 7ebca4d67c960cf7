"""What experiments are made of: the steps and the parts that pipelines put together."""
