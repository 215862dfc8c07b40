"""The ledger: facts that commits carry, and the coverage folded from them. No Spark, no snapshot."""
