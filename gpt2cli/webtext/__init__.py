"""From Reddit submissions to clean documents: links, fetch, extract, filter, dedup."""
