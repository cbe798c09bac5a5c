-- Room to grow: points for heavy usage, a small plan, enthusiasm and an enterprise deal.
CREATE MACRO expansion_potential(usage_pct, plan, nps_score, deal_stage) AS
    points_to_level(
        CASE
            WHEN coalesce(usage_pct, 50) >= 80 THEN 3
            WHEN coalesce(usage_pct, 50) >= 60 THEN 1
            ELSE 0
        END
        + CASE
            WHEN normalise_word(plan) IN ('starter', 'free', 'basic') THEN 2
            WHEN normalise_word(plan) IN ('business', 'professional') THEN 1
            ELSE 0
        END
        + CASE WHEN nps_score >= 9 THEN 2 ELSE 0 END
        + CASE WHEN normalise_word(deal_stage) = 'enterprise' THEN 1 ELSE 0 END
    )
