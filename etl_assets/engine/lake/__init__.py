"""The object store behind `ETL_LAKE`: objects with conditional puts, and the Delta table; nothing of what they mean.

Both libraries are an extra (`etl_assets[lake]`) and imported at their first use. They start threads then, so nothing
here may be used before a fork.
"""
