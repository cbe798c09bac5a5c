-- Risk of losing the customer: points for low usage, payment trouble, dissatisfaction and open tickets.
CREATE MACRO churn_risk(usage_pct, payment_status, nps_score, open_tickets) AS
    points_to_level(
        CASE
            WHEN coalesce(usage_pct, 50) < 30 THEN 3
            WHEN coalesce(usage_pct, 50) < 50 THEN 1
            ELSE 0
        END
        + CASE WHEN normalise_word(payment_status) IN ('past_due', 'failed') THEN 3 ELSE 0 END
        + CASE WHEN nps_score <= 6 THEN 2 ELSE 0 END
        + CASE WHEN coalesce(open_tickets, 0) > 3 THEN 1 ELSE 0 END
    )
