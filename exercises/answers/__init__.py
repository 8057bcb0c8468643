"""Each exercise is a module: its checks, solutions and named wrong answers."""
