"""The champion gate: whether a challenger may take the champion's place, and why, in a table and on a page."""
