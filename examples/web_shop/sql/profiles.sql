-- The profile: one row for each person. Lines become orders first; then orders are counted and summed.
WITH orders AS (
    SELECT
        email,
        order_name,
        max(financial_status) AS financial_status,
        max(total) AS total,
        max(ordered_at) AS ordered_at
    FROM order_lines
    GROUP BY email, order_name
),

orders_of_person AS (
    SELECT
        email,
        count(*) AS order_count,
        sum(total)::DECIMAL(12, 2) AS revenue,
        max(ordered_at) AS last_order_at
    FROM orders
    WHERE financial_status = 'paid'
    GROUP BY email
),

favourites AS (
    -- Of articles that were ordered equally often, the first by name.
    SELECT email, article AS favourite_article
    FROM order_lines
    GROUP BY email, article
    QUALIFY row_number() OVER (PARTITION BY email ORDER BY sum(quantity) DESC, article) = 1
),

reviews_of_person AS (
    SELECT
        email,
        count(*) AS review_count,
        (sum(rating) / count(rating))::DECIMAL(3, 2) AS average_rating,
        max_by(rating, (reviewed_at, rating)) AS last_rating
    FROM reviews
    GROUP BY email
)

SELECT
    base.email,
    customers.*,
    newsletter.* EXCLUDE (last_changed),
    coalesce(order_count, 0) AS order_count,
    coalesce(revenue, 0) AS revenue,
    (revenue / order_count)::DECIMAL(12, 2) AS average_order,
    last_order_at,
    favourite_article,
    coalesce(review_count, 0) AS review_count,
    average_rating,
    last_rating,
    segment(coalesce(order_count, 0), newsletter.member_rating) AS segment,
    base.sources,
    base.issues,
    base.shard_id,
    base.idempotency_key
FROM people
LEFT JOIN orders_of_person ON orders_of_person.email = base.email
LEFT JOIN favourites ON favourites.email = base.email
LEFT JOIN reviews_of_person ON reviews_of_person.email = base.email
