"""What training, decoding and single retentions cost: sections of candidates that are timed in turn."""
