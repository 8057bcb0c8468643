"""Large corpora: fetched, cleaned, freed of duplicates, split by file, and written as shards of tokens."""
