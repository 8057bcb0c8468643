"""What training, decoding and single retentions cost: candidates that take turns, in sections."""
