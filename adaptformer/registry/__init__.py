"""Registered models: versions, the gate's decisions, promotion, rollback, history, lineage."""
