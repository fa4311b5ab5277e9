"""Networks that the trainer can build. Each gives (logits, embedding)."""
