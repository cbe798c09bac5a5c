-- 0 to 100. An account without ratings loses no points.
CREATE MACRO health_score(active_days, payment_is_late, open_ticket_count, satisfied_pct) AS
    50
    + CASE WHEN active_days >= 10 THEN 30 WHEN active_days >= 3 THEN 10 ELSE -20 END
    + CASE WHEN payment_is_late THEN -15 ELSE 10 END
    + CASE WHEN open_ticket_count > 1 THEN -10 ELSE 0 END
    + CASE WHEN satisfied_pct < 50 THEN -5 ELSE 0 END
