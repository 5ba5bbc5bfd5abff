"""Two concepts in one picture on the small flow world: what bleeds from one into the other, and what keeps it back."""
