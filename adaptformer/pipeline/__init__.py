"""The stages, their table, and what runs them."""
