"""A project drafted from a folder of exports: what their bytes and values say, as YAML and SQL to go on from."""
