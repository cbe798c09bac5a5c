-- What a subscription brings in a month.
CREATE MACRO monthly_amount(amount, charged_each) AS
    (amount / CASE charged_each WHEN 'year' THEN 12 ELSE 1 END)::DECIMAL(12, 2)
