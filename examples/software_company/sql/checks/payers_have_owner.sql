-- Someone looks after every account that pays.
SELECT account_id, mrr FROM merged_profiles WHERE mrr > 0 AND account_owner IS NULL
