-- Someone looks after every account that pays.
SELECT email, mrr FROM merged_profiles WHERE mrr > 0 AND account_owner IS NULL
