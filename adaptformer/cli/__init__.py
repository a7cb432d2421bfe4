"""The commands of `adaptformer`, one file per group; each imports its modules only when it runs, so help is fast."""
