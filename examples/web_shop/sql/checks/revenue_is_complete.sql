-- The revenue of all profiles is that of all paid orders.
SELECT
    (SELECT sum(revenue) FROM merged_profiles) AS of_profiles,
    sum(total) AS of_orders
FROM order_lines
WHERE financial_status = 'paid'
HAVING of_profiles IS DISTINCT FROM of_orders
