"""The floor: one DuckDB query from the exports to profiles with the same keys, and nothing else.

It has no validation, shards, orchestration, checks or atomic swap. The time that a pipeline on DuckDB takes beyond this
is the price of what it adds.
"""

import inspect
import sys
from functools import partial
from pathlib import Path

import duckdb
import xxhash

_MACROS = (
    "CREATE TEMP MACRO word(t) AS coalesce(replace(replace(lower(trim(t)), ' ', '_'), '-', '_'), '')",
    """CREATE TEMP MACRO level(points) AS
        CASE WHEN points >= 5 THEN 'HIGH' WHEN points >= 2 THEN 'MEDIUM' ELSE 'LOW' END""",
)

_QUERY = """
CREATE TABLE profiles AS
WITH crm AS (
    SELECT *, 'crm' AS source FROM read_csv($folder || '/crm.csv', header = true, columns = {
        customer_id: 'VARCHAR', email: 'VARCHAR', company_name: 'VARCHAR', industry: 'VARCHAR',
        employee_count: 'BIGINT', deal_stage: 'VARCHAR', deal_value: 'DECIMAL(18,2)', sales_owner: 'VARCHAR',
        last_contact: 'DATE'
    })
),
billing AS (
    SELECT *, 'billing' AS source FROM read_csv($folder || '/billing.csv', header = true, columns = {
        customer_id: 'VARCHAR', email: 'VARCHAR', plan: 'VARCHAR', mrr: 'DECIMAL(18,2)', payment_status: 'VARCHAR',
        subscription_start: 'DATE', last_payment: 'DATE'
    })
),
product AS (
    SELECT *, 'product' AS source FROM read_csv($folder || '/product.csv', header = true, columns = {
        customer_id: 'VARCHAR', email: 'VARCHAR', signup_date: 'DATE', last_active: 'DATE', total_sessions: 'BIGINT',
        features_used: 'BIGINT', usage_pct: 'BIGINT', account_status: 'VARCHAR'
    })
),
support AS (
    SELECT *, 'support' AS source FROM read_csv($folder || '/support.csv', header = true, columns = {
        customer_id: 'VARCHAR', email: 'VARCHAR', total_tickets: 'BIGINT', open_tickets: 'BIGINT',
        avg_resolution_hrs: 'DOUBLE', last_ticket_date: 'DATE', nps_score: 'BIGINT', csat_score: 'DOUBLE'
    })
),
joined AS (
    SELECT
        customer_id,
        coalesce(crm.email, billing.email, product.email, support.email) AS email,
        company_name, industry, employee_count, deal_stage, deal_value, sales_owner, last_contact,
        plan, mrr, payment_status, subscription_start, last_payment,
        signup_date, last_active, total_sessions, features_used, usage_pct, account_status,
        total_tickets, open_tickets, avg_resolution_hrs, last_ticket_date, nps_score, csat_score,
        coalesce(usage_pct, 50) AS usage,
        coalesce(open_tickets, 0) AS tickets,
        word(payment_status) AS payment,
        list_filter([crm.source, billing.source, product.source, support.source], lambda s: s IS NOT NULL) AS sources,
        to_json([
            'v1',
            crm.source, crm.email, company_name, industry, employee_count::VARCHAR, deal_stage, deal_value::VARCHAR,
            sales_owner, last_contact::VARCHAR,
            billing.source, billing.email, plan, mrr::VARCHAR, payment_status, subscription_start::VARCHAR,
            last_payment::VARCHAR,
            product.source, product.email, signup_date::VARCHAR, last_active::VARCHAR, total_sessions::VARCHAR,
            features_used::VARCHAR, usage_pct::VARCHAR, account_status,
            support.source, support.email, total_tickets::VARCHAR, open_tickets::VARCHAR,
            avg_resolution_hrs::VARCHAR, last_ticket_date::VARCHAR, nps_score::VARCHAR, csat_score::VARCHAR
        ])::VARCHAR AS encoding
    FROM crm
    FULL JOIN billing USING (customer_id)
    FULL JOIN product USING (customer_id)
    FULL JOIN support USING (customer_id)
)
SELECT
    * EXCLUDE (usage, tickets, payment, sources, encoding),
    least(100, greatest(0,
        50
        + CASE WHEN usage >= 80 THEN 20 WHEN usage >= 60 THEN 10 WHEN usage < 30 THEN -10 ELSE 0 END
        + CASE WHEN payment = 'active' THEN 15 WHEN payment IN ('past_due', 'failed') THEN -15 ELSE 0 END
        + CASE WHEN nps_score >= 9 THEN 10 WHEN nps_score >= 7 THEN 5 WHEN nps_score <= 5 THEN -10 ELSE 0 END
        + CASE WHEN tickets = 0 THEN 5 WHEN tickets > 3 THEN -5 ELSE 0 END
    ))::INTEGER AS health_score,
    level(
        CASE WHEN usage < 30 THEN 3 WHEN usage < 50 THEN 1 ELSE 0 END
        + CASE WHEN payment IN ('past_due', 'failed') THEN 3 ELSE 0 END
        + CASE WHEN nps_score <= 6 THEN 2 ELSE 0 END
        + CASE WHEN tickets > 3 THEN 1 ELSE 0 END
    ) AS churn_risk,
    level(
        CASE WHEN usage >= 80 THEN 3 WHEN usage >= 60 THEN 1 ELSE 0 END
        + CASE
            WHEN word(plan) IN ('starter', 'free', 'basic') THEN 2
            WHEN word(plan) IN ('business', 'professional') THEN 1
            ELSE 0
        END
        + CASE WHEN nps_score >= 9 THEN 2 ELSE 0 END
        + CASE WHEN word(deal_stage) = 'enterprise' THEN 1 ELSE 0 END
    ) AS expansion_potential,
    sources,
    customer_id || ':' || xxh3_128(encode(encoding)) AS idempotency_key
FROM joined
"""


def main(sources: Path, out: Path) -> None:
    """Write the table `profiles` to the new DuckDB file `out`."""
    with duckdb.connect(out) as connection:
        # The profiles need no order, and keeping one costs time.
        connection.execute("SET preserve_insertion_order = false")
        # The fastest way to this hash: DuckDB calls the C function without a Python function around it.
        xxh3_128 = partial(xxhash.xxh3_128_hexdigest)
        data = inspect.Parameter("data", inspect.Parameter.POSITIONAL_ONLY)
        xxh3_128.__signature__ = inspect.Signature([data])  # type: ignore[attr-defined]
        connection.create_function("xxh3_128", xxh3_128, ["BLOB"], "VARCHAR")
        for macro in _MACROS:
            connection.execute(macro)
        connection.execute(_QUERY, {"folder": str(sources)})


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
