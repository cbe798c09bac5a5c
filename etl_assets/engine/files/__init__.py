"""Names and files under ETL_HOME: the only room that touches them."""
