"""The report's sections, one a file, in the order of the page."""
