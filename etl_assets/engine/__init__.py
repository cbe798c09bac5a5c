"""How it is done: reading, routing, keys, building, merging. Knows no Dagster and no word of any domain."""
