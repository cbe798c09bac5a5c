-- Whom to write to, and with what.
CREATE MACRO segment(order_count, member_rating) AS
    CASE
        WHEN order_count >= 3 THEN 'REGULAR'
        WHEN order_count >= 1 THEN 'BUYER'
        WHEN member_rating >= 3 THEN 'READER'
        ELSE 'VISITOR'
    END
