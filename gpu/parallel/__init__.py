"""One model on several processes: joined, sharded, or with the text split."""
