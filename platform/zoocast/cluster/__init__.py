"""Where work runs: a Ray of our own or a cluster, whether it is fit for a run, and jobs that are sent to it."""
