"""Very many images looked at in shards, before they are imported or where they stay: faults, copies, features."""
