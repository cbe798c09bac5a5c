-- The revenue of all profiles is that of all paid orders.
SELECT
    (SELECT coalesce(sum(revenue), 0) FROM merged_profiles) AS of_profiles,
    coalesce(sum(total), 0) AS of_orders
FROM order_lines
WHERE financial_status = 'paid'
HAVING of_profiles IS DISTINCT FROM of_orders
