-- Each accepted ticket is counted once.
SELECT counted, accepted
FROM (SELECT sum(tickets) AS counted FROM merged_profiles), (SELECT count(*) AS accepted FROM tickets)
WHERE counted IS DISTINCT FROM accepted
