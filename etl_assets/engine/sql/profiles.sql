-- The enriched profile: one row per customer of the shard. This is the file to change when a column is added.
-- Each source of the contract is a relation of its own name. The words in braces are filled in from the contract:
-- the sources joined on customer_id, the list of those a customer stands in, the canonical text of the customer's
-- source records, and the shard's name.
SELECT
    customer_id,
    coalesce(crm.email, billing.email, product.email, support.email) AS email,
    crm.company_name,
    crm.industry,
    crm.employee_count,
    crm.deal_stage,
    crm.deal_value,
    crm.sales_owner,
    crm.last_contact,
    billing.plan,
    billing.mrr,
    billing.payment_status,
    billing.subscription_start,
    billing.last_payment,
    product.signup_date,
    product.last_active,
    product.total_sessions,
    product.features_used,
    product.usage_pct,
    product.account_status,
    support.total_tickets,
    support.open_tickets,
    support.avg_resolution_hrs,
    support.last_ticket_date,
    support.nps_score,
    support.csat_score,
    health_score(product.usage_pct, billing.payment_status, support.nps_score, support.open_tickets) AS health_score,
    churn_risk(product.usage_pct, billing.payment_status, support.nps_score, support.open_tickets) AS churn_risk,
    expansion_potential(product.usage_pct, billing.plan, support.nps_score, crm.deal_stage) AS expansion_potential,
    {source_names} AS sources,
    {shard_id} AS shard_id,
    customer_id || ':' || stable_hash({source_encoding}) AS idempotency_key
FROM {joined_sources}
