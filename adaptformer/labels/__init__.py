"""Which labels are likely wrong, and how well the classes can be told apart before anything is trained."""
