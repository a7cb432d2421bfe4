"""The commands of `adaptformer`, one file a group; each imports what it needs only when it runs, so help is fast."""
