-- Health of the relationship, 0 to 100: usage, payment, satisfaction and open tickets around a neutral 50.
CREATE MACRO health_score(usage_pct, payment_status, nps_score, open_tickets) AS
    least(100, greatest(0, (
        50
        + CASE
            WHEN coalesce(usage_pct, 50) >= 80 THEN 20
            WHEN coalesce(usage_pct, 50) >= 60 THEN 10
            WHEN coalesce(usage_pct, 50) < 30 THEN -10
            ELSE 0
        END
        + CASE
            WHEN normalise_word(payment_status) = 'active' THEN 15
            WHEN normalise_word(payment_status) IN ('past_due', 'failed') THEN -15
            ELSE 0
        END
        + CASE
            WHEN nps_score >= 9 THEN 10
            WHEN nps_score >= 7 THEN 5
            WHEN nps_score <= 5 THEN -10
            ELSE 0
        END
        + CASE
            WHEN coalesce(open_tickets, 0) = 0 THEN 5
            WHEN coalesce(open_tickets, 0) > 3 THEN -5
            ELSE 0
        END
    )))::INTEGER
