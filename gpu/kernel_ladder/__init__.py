"""Five versions of one kernel, each checked and timed by one harness: from the reference on torch to the tuned one."""
