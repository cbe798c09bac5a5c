-- Everyone who ordered is in the export of customers; guests are not.
SELECT email, order_count, revenue FROM merged_profiles WHERE order_count > 0 AND shop_id IS NULL
