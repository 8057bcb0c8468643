"""The gradebook: from graded submissions to a row a student, files for other systems, and a page on the class."""
