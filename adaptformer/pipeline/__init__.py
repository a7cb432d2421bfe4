"""The stages and their table, records of what is done, and what runs them: one stage, a run, comparisons, sweeps."""
